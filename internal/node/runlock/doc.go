// Package runlock lets only one run at a time use a state directory, whoever starts it.
//
// The lock is the kernel's (flock on an open file), so it ends with the process, however
// that ends: there are no stale locks. The record of its holder beside it is for people,
// and decides nothing.
package runlock
