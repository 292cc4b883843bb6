package verify

import "every.channel/ec-verify/internal/report"

// are counts things, with the verb: "1 path is", "2 paths are".
func are(n int, noun string) string { return counted(n, noun, " is", " are") }

// were is are in the past.
func were(n int, noun string) string { return counted(n, noun, " was", " were") }

func counted(n int, noun, one, many string) string {
	if n == 1 {
		many = one
	}
	return report.Quantity(n, noun) + many
}
