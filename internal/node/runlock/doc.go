// Package runlock keeps apart the runs that share a state directory: one at a
// time, whoever starts them.
//
// The lock is the kernel's (flock on an open file), so that it ends with the
// process however that ends: there are no stale ones. What is written beside it
// of who holds it is for people, and nothing is decided by it.
package runlock
