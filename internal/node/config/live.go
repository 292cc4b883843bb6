package config

// Live says how what can be booted is judged.
type Live struct {
	// OtherEntries grades an entry of the boot menu that leads to no accepted
	// release and is not started by itself: [EntriesNotice] or [EntriesDrift].
	OtherEntries string `json:"otherEntries"`
}

// The grades.
const (
	EntriesNotice = "notice"
	EntriesDrift  = "drift"
)

func (l *Live) check(wrong complain) {
	if l.OtherEntries != EntriesNotice && l.OtherEntries != EntriesDrift {
		wrong("live.otherEntries", "%q is not %s or %s", l.OtherEntries, EntriesNotice, EntriesDrift)
	}
}
