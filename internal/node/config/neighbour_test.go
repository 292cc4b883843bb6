package config

import (
	"strings"
	"testing"
)

func TestNeighbourRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"rate": -1}`, "neighbour.rate: -1 is neither 0 nor at least 1048576 bytes a second"},
		{`{"rate": 1000}`, "neighbour.rate: 1000 is neither 0"},
		{`{"rate": "50M"}`, "neighbour.rate: want a whole number of a reasonable size, not a string"},
		{`{"maxPressure": -0.1}`, "neighbour.maxPressure: -0.1 is not between 0 and 100 percent"},
		{`{"maxPressure": 101}`, "neighbour.maxPressure: 101 is not"},
		{`{"maxPressure": "10%"}`, "neighbour.maxPressure: want a number, not a string"},
		{`{"maxPause": "-1s"}`, "neighbour.maxPause: must not be negative"},
		{`{"maxpause": "1s"}`, `unknown key "neighbour.maxpause"`},
	} {
		if _, err := Parse([]byte(`{"neighbour": ` + tc.text + `}`)); err == nil || !strings.HasPrefix(unplaced(err), tc.want) {
			t.Errorf("%s: %v, want the error %q", tc.text, err, tc.want)
		}
	}
}
