// Package systemd talks to systemd and its journal.
//
// notify*.go implement the protocol of sd_notify(3): what the run is doing, for systemctl
// status, and signs of life, without which systemd ends a unit as hung. timer.go asks
// when a timer fires next. Outside a unit, and on a machine without systemd, all of this
// does nothing or returns that the answer is unknown.
//
// journal*.go write to the journal: journal_event.go has the events and field names,
// journal_report.go creates entries from a report, and journal.go sends them without
// hanging if the journal does. systemd/ec-verify.catalog and docs/monitoring.md explain
// the entries.
package systemd
