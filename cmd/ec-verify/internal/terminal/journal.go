package terminal

import (
	"errors"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
)

// registerJournal adds the flag that says when the journal is written to.
func (t *Terminal) registerJournal(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&t.JournalWhen, "journal", "", "send events to the journal `WHEN`: auto (in a unit that logs there), always or never (default auto)")
	Complete(cmd, "journal", config.JournalWhen...)
}

// Journals reports whether events go to the journal. Before there is a
// configuration, only the flag says when.
func (t *Terminal) Journals() bool {
	switch t.JournalWhen {
	case "always":
		return true
	case "never":
		return false
	}
	return systemd.StderrIsJournal()
}

// ComplainInJournal sends an error to the journal, if events go there, and reports
// whether a reader of stderr finds it there.
func (t *Terminal) ComplainInJournal(err error) bool {
	if !t.Journals() {
		return false
	}
	if t.journal == nil {
		t.journal = systemd.NewJournal()
	}
	// A journal that did not accept one complaint would delay each of many.
	if lost, _ := t.journal.Lost(); lost > 0 {
		return false
	}
	entry := systemd.Failed(ToolVersion(), err)
	if stopped := (Interruption{}); errors.As(err, &stopped) {
		entry.Priority = journal.PriNotice // somebody wanted it so
	}
	t.journal.Send(entry)
	if lost, _ := t.journal.Lost(); lost > 0 {
		return false
	}
	// The journal attributes an entry to the unit only while this process lives. If that
	// can't be awaited, the entry is there all the same, and must not be printed as well.
	_ = t.journal.Flush()
	return systemd.StderrIsJournal()
}
