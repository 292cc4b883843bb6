package sha256pair

import (
	"crypto/fips140"
	"os"
	"strings"
)

// Available reports whether two hashes at once are faster than one after the
// other on this processor. It does not change while the program runs.
func Available() bool { return available }

// available is set before anything else of the package runs.
var available = hasInstructions(godebug(os.Getenv("GODEBUG"))) && !fips140.Enabled()

// godebug returns whether a value of the environment variable GODEBUG leaves a
// feature of the processor on. It reads cpu.NAME=off as the Go runtime does for
// crypto/sha256, which keeps what it read to itself.
func godebug(value string) (on func(feature string) bool) {
	off := make(map[string]bool)
	all := false
	for field := range strings.SplitSeq(value, ",") {
		name, setting, _ := strings.Cut(field, "=")
		feature, isCPU := strings.CutPrefix(name, "cpu.")
		if !isCPU || setting != "on" && setting != "off" {
			continue
		}
		if feature == "all" {
			// It overrides what was said before.
			clear(off)
			all = setting == "off"
			continue
		}
		off[feature] = setting == "off"
	}
	return func(feature string) bool {
		if setting, said := off[feature]; said {
			return !setting
		}
		return !all
	}
}
