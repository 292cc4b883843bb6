// Package systemd is how a run is told to the system and service manager that
// runs it, and asked of it.
//
// notify*.go speak the protocol of sd_notify(3): what the run is doing, for
// systemctl status, and signs of life, without which a unit is ended as hung.
// timer.go asks when a timer fires next. Outside a unit, and on a machine
// without systemd, all of this does nothing or says that it does not know.
//
// The package says nothing of what is verified: it is told words and counters.
package systemd
