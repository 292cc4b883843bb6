// Package expected describes the healthy state of a system's machine outside its store: the
// entries of /etc, the units, the users, the mounts, the kernel's parameters and settings,
// the firewall. All of it is read from the system's own files ([Read]), so everybody who
// has the system reads the same.
//
// A release may have it as an asset ([Machine.Write], [Decode]), which its signature covers.
// A machine with that asset is compared with signed data, and not with files on the
// examined disk.
package expected
