// Package expected says what a healthy machine of a system looks like beside its
// store: the entries of /etc, the units, the users, the mounts, what the kernel is
// told. All of it is read from the system's own files ([Read]), so that two who have
// the system read the same.
//
// A release may state it in an asset of its own ([Write], [Decode]), which its
// signature covers. A machine that has that compares with what was signed, and not
// with files on the disk that it examines.
package expected
