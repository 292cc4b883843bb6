// Package mounted distinguishes the mounts of a release's configuration, from its
// fstab(5) and its mount units, from others.
package mounted
