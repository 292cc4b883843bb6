// Package activate makes a judged system the one that runs, or that boots: it is the only
// part of this program that changes a machine.
//
// It judges nothing, and nothing that judges imports it. [Begin] excludes other switches,
// [Switch.Hold] protects a system from the garbage collector, [Marks] show whether what
// was hashed has changed since, and [Switch.Activate] sets the system profile and runs
// the system's own switch-to-configuration, in a unit of its own. [HoldCandidate] protects
// a system until a switch.
package activate
