// Package attest makes evidence of reports: in-toto statements that say which
// machine reported what, which run of it that was, and what came before, so that
// who collects them notices when one is changed, left out or put elsewhere.
//
//	statement.go  the statement: made of a report, read back and held to its rules
//	machine.go    what a machine is called
//	dir.go        the directory of signed statements, which is the chain
//	chain.go      several statements of machines, one after the other
//
// Signatures are package trust's; this one sees bundles as bytes. A statement
// proves no more than that the holder of the key said so: see
// docs/threat-model.md.
package attest
