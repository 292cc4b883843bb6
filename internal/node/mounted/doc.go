// Package mounted tells the mounts that a release's configuration makes, by its
// fstab(5) and its mount units, from others.
package mounted
