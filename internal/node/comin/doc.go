// Package comin speaks with comin, a program that deploys NixOS systems from Git, over
// its gRPC service: which generation waits to be confirmed, and confirm it.
//
// It needs two of the service's methods and a few fields of their messages, so it
// brings no gRPC library: the calls are HTTP/2 requests of net/http, and the messages
// are read by their field numbers (services.proto of comin, versions 0.10 to 0.13).
package comin
