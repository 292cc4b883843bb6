// Package standing says what is known of a machine by all runs of its policy
// together, whatever else is asked about it in between.
//
//	asked.go     which runs are the policy's, and which are looks
//	recall.go    which of the copies that are kept is the standing, and that it is lost
//	standing.go  what a run of the policy makes of the standing before it
//
// A look asks for something of its own: another release, fewer checks, another
// disk. What it finds is in its report, and changes no standing.
package standing
