package ledger

// Tier is a kind of check whose results are remembered item by item. The zero
// value is no tier.
type Tier string

// The tiers. Their names are those in reports.
const (
	// Contents hashes store paths from disk. An item is a path of the closure,
	// its cost is in bytes of NAR.
	Contents Tier = "contents"
	// Rebuild builds derivations afresh. An item is a derivation, its cost is in
	// milliseconds.
	Rebuild Tier = "rebuild"
)

// Tiers returns the tiers in the order of a run.
func Tiers() []Tier { return []Tier{Contents, Rebuild} }
