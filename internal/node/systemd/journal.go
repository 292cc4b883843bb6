package systemd

import (
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalWait is how long a call of Send waits for the journal: journald takes a second
// or two to restart, and its socket keeps what is sent meanwhile.
const journalWait = 10 * time.Second

// Entry is an entry of the journal; see systemd.journal-fields(7). All its text is safe
// for a terminal.
type Entry struct {
	Event    Event
	Priority journal.Priority
	// Message is for people. Its first line is sufficient; more may follow.
	Message string
	// Fields are sent with it; empty ones are left out.
	Fields map[Field]string
}

// StderrIsJournal reports whether this process's stderr goes to the journal, as it does
// in a unit by default. A unit that is merely an ancestor, such as a terminal's or a CI
// runner's, does not count.
func StderrIsJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}

// StdoutIsJournal is StderrIsJournal for stdout.
func StdoutIsJournal() bool {
	is, err := journal.StdoutIsJournalStream()
	return is && err == nil
}

// Journal sends entries to this machine's journal. It never fails and never hangs:
// entries that the journal does not accept in time are lost, and counted. It is not safe
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

// errJournalHangs is the error of entries that journald did not read.
var errJournalHangs = errors.New("the journal takes nothing: does systemd-journald hang?")

// Send sends entries in their order. If the journal accepts nothing, it waits for a few
// seconds, once.
func (j *Journal) Send(entries ...Entry) {
	timeout := time.NewTimer(j.wait)
	defer timeout.Stop()
	for i, e := range entries {
		// The library has no deadline, so a hanging call is abandoned: one goroutine at
		// most, because nothing is sent after it.
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

// Flush waits, a few seconds at most, until journald has read what was sent. If it fails,
// journald may still read the entries later, but no longer as the unit's.
func (j *Journal) Flush() error {
	if j.lost > 0 {
		return j.err
	}
	return j.sync(j.wait)
}

// Lost returns how many entries were lost, and the last error.
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
