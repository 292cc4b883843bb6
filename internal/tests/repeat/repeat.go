// Package repeat says how often tests do again what they do at moments or places that are
// drawn at random. Nothing but tests may import it.
package repeat

import (
	"os"
	"strconv"
	"testing"
)

// Env is the name of an environment variable: a whole number of 1 or more by which make
// test-long multiplies the repetitions of make test. Unset means 1.
const Env = "EC_VERIFY_TEST_TIMES"

// Times returns n times the value of [Env].
func Times(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv(Env)
	if text == "" {
		return n
	}
	times, err := strconv.Atoi(text)
	if err != nil || times < 1 {
		t.Fatalf("%s=%s: want a whole number of 1 or more", Env, text)
	}
	return n * times
}
