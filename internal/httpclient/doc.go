// Package httpclient has what every HTTP client of this program shares: connections with
// limits, repeated tries, and errors in one line.
package httpclient
