package config

// Live says how bootable systems are judged.
type Live struct {
	// OtherEntries is the grade of an entry of the boot menu that belongs to no accepted
	// release and is not the default: [EntriesNotice] or [EntriesDrift].
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
