// Package systemd is how a run is told to the system and service manager that
// runs it, and asked of it.
//
// notify*.go speak the protocol of sd_notify(3): what the run is doing, for
// systemctl status, and signs of life, without which a unit is ended as hung.
// timer.go asks when a timer fires next. Outside a unit, and on a machine
// without systemd, all of this does nothing or says that it does not know.
//
// journal*.go tell the journal: journal_event.go has the events and the names of
// their fields, journal_report.go makes entries of a report, and journal.go sends
// them, where the journal does not hang. What entries mean to their reader stands
// in systemd/ec-verify.catalog and docs/monitoring.md.
package systemd
