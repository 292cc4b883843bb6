// Package attest turns reports into evidence: in-toto statements that say which machine
// and which run a report is from, and which report preceded it, so that a collector
// notices when one is changed, missing or moved.
//
//	statement.go  the statement: created from a report, read back and checked
//	machine.go    the name of a machine
//	dir.go        the directory of signed statements, which is the chain
//	chain.go      several statements of machines, one after the other
//
// Package trust makes the signatures; bundles are bytes here. A statement proves only
// that the holder of the key made it: see docs/threat-model.md.
package attest
