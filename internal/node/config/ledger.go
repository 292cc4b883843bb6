package config

import (
	"time"

	"every.channel/ec-verify/internal/node/ledger"
)

// Ledger says how old a remembered check may be.
type Ledger struct {
	// ContentsEvery is the longest time between two hashings of a store path,
	// RebuildEvery that between two rebuilds of a derivation.
	ContentsEvery Duration `json:"contentsEvery"`
	RebuildEvery  Duration `json:"rebuildEvery"`
}

func defaultLedger() Ledger {
	p := ledger.DefaultPolicy()
	return Ledger{ContentsEvery: Duration(p.Contents), RebuildEvery: Duration(p.Rebuild)}
}

// Policy returns l in the ledger's type.
func (l Ledger) Policy() ledger.Policy {
	return ledger.Policy{Contents: time.Duration(l.ContentsEvery), Rebuild: time.Duration(l.RebuildEvery)}
}

func (l *Ledger) check(wrong complain) {
	if l.ContentsEvery <= 0 {
		wrong("ledger.contentsEvery", "must be more than 0")
	}
	if l.RebuildEvery <= 0 {
		wrong("ledger.rebuildEvery", "must be more than 0")
	}
}

// Contents says how store paths are hashed.
type Contents struct {
	// Budget is how long one run hashes; 0 for until everything is hashed.
	Budget Duration `json:"budget"`
}

func (c *Contents) check(wrong complain) {
	if c.Budget < 0 {
		wrong("contents.budget", "must not be negative")
	}
}
