package systemd

import (
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalWait is how long the journal is waited for by one call of Send: a daemon
// that is started anew takes a second or two, and its socket keeps what is sent
// meanwhile.
const journalWait = 10 * time.Second

// Entry is one entry of the journal; see systemd.journal-fields(7). All text in
// it is fit for a terminal.
type Entry struct {
	Event    Event
	Priority journal.Priority
	// Message is for people. Its first line says it all; there may be more.
	Message string
	// Fields are sent beside it; an empty one is left out.
	Fields map[Field]string
}

// StderrIsJournal reports whether what this process writes to stderr goes to the
// journal, as in a unit of which nothing else is said. A unit that is only
// somewhere above, as that of a terminal or of a CI runner, is none.
func StderrIsJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}

// StdoutIsJournal is StderrIsJournal for stdout.
func StdoutIsJournal() bool {
	is, err := journal.StdoutIsJournalStream()
	return is && err == nil
}

// Journal sends entries to the journal of this machine. It never fails and never
// hangs: what the journal does not take in time is lost, and counted. It is not
// for concurrent use.
type Journal struct {
	send func(Entry) error
	sync func(time.Duration) error
	wait time.Duration
	lost int
	err  error
}

// NewJournal returns the journal of this machine.
func NewJournal() *Journal {
	return &Journal{send: sendNative, sync: func(wait time.Duration) error { return synchronize(journalControl, wait) }, wait: journalWait}
}

// errJournalHangs is why entries are lost that nobody read.
var errJournalHangs = errors.New("the journal takes nothing: does systemd-journald hang?")

// Send sends entries, in their order. Where the journal takes nothing it waits
// for a few seconds, once.
func (j *Journal) Send(entries ...Entry) {
	timeout := time.NewTimer(j.wait)
	defer timeout.Stop()
	for i, e := range entries {
		// The library knows no deadline, so what hangs is left behind: one
		// goroutine, as nothing is sent after it.
		sent := make(chan error, 1)
		go func() { sent <- j.send(e) }()
		select {
		case err := <-sent:
			if err != nil {
				j.lost, j.err = j.lost+1, err
			}
		case <-timeout.C:
			j.lost, j.err = j.lost+len(entries)-i, errJournalHangs
			return
		}
	}
}

// Flush waits until the journal has read what was sent, for a few seconds at
// most. It fails where it is not known to have; what is sent may still come to be
// read, but no longer as the unit's.
func (j *Journal) Flush() error {
	if j.lost > 0 {
		return j.err
	}
	return j.sync(j.wait)
}

// Lost returns how many entries the journal did not take, and why the last one.
func (j *Journal) Lost() (int, error) { return j.lost, j.err }

func sendNative(e Entry) error {
	fields := map[string]string{
		"MESSAGE_ID":        string(e.Event),
		"SYSLOG_IDENTIFIER": "ec-verify",
	}
	for name, value := range e.Fields {
		if value != "" {
			fields[string(name)] = value
		}
	}
	if err := journal.Send(e.Message, e.Priority, fields); err != nil {
		return fmt.Errorf("send to the journal: %w", err)
	}
	return nil
}
