package verify

import "fmt"

// quantity counts things: "1 path", "2 paths".
func quantity(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// are is quantity with its verb: "1 path is", "2 paths are".
func are(n int, noun string) string {
	if n == 1 {
		return quantity(n, noun) + " is"
	}
	return quantity(n, noun) + " are"
}

// were is are in the past.
func were(n int, noun string) string {
	if n == 1 {
		return quantity(n, noun) + " was"
	}
	return quantity(n, noun) + " were"
}
