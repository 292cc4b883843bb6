// Package standing combines all runs of a machine's policy into its standing, whatever
// else is asked in between.
//
//	asked.go     which runs are the policy's, and which are looks
//	recall.go    which of the copies that are kept is the standing, and that it is lost
//	standing.go  what a run of the policy makes of the standing before it
//
// A look asks for something of its own: another release, fewer checks, another disk. Its
// results are in its report, and change no standing.
package standing
