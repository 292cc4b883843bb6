package config

import "fmt"

// Journal says how events reach the journal.
type Journal struct {
	// When is one of "auto", in a unit whose messages go to the journal,
	// "always" and "never".
	When string `json:"when"`
}

// JournalWhen are the values of [Journal].When.
var JournalWhen = []string{"auto", "always", "never"}

func defaultJournal() Journal { return Journal{When: JournalWhen[0]} }

func (j *Journal) check() error {
	for _, known := range JournalWhen {
		if j.When == known {
			return nil
		}
	}
	return fmt.Errorf("journal.when: %q: want auto, always or never", j.When)
}
