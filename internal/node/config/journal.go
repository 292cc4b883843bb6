package config

import "slices"

// Journal says when events are sent to the journal.
type Journal struct {
	// When is "auto" (in a unit whose messages go to the journal), "always" or "never".
	When string `json:"when"`
}

// JournalWhen are the values of [Journal].When.
var JournalWhen = []string{"auto", "always", "never"}

func defaultJournal() Journal { return Journal{When: JournalWhen[0]} }

func (j *Journal) check(wrong complain) {
	if !slices.Contains(JournalWhen, j.When) {
		wrong("journal.when", "%q: want auto, always or never", j.When)
	}
}
