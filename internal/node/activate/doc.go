// Package activate makes a system that was judged the one that runs, or that boots:
// the one part of this program that changes a machine.
//
// It judges nothing itself, and nothing that judges imports it. [Begin] keeps other
// switches out, [Switch.Hold] keeps the garbage collector from a system, [Marks] tell
// whether what was hashed was touched since, and [Switch.Activate] sets the system
// profile and runs the system's own switch-to-configuration, in a unit of its own.
package activate
