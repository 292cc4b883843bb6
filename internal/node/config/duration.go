package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration in Go's notation, with days of 24 hours and weeks of seven
// days: "90s", "15m", "7d", "1w2d12h". The zero value is written "0s". It is a flag's
// value as well.
type Duration time.Duration

const day = 24 * time.Hour

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, ok := parseDuration(string(text))
	if !ok {
		return fmt.Errorf("%q is not a duration such as 90s, 15m, 72h, 7d or 2w", text)
	}
	*d = Duration(parsed)
	return nil
}

// parseDuration parses weeks and days at the front; Go parses the rest.
func parseDuration(text string) (sum time.Duration, ok bool) {
	text, negative := strings.CutPrefix(text, "-")
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
		return 0, false
	}
	long := false
	for _, unit := range []struct {
		letter string
		is     time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, rest, found := strings.Cut(text, unit.letter)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || time.Duration(n) > (math.MaxInt64-sum)/unit.is {
			return 0, false
		}
		sum, text, long = sum+time.Duration(n)*unit.is, rest, true
	}
	if text != "" || !long {
		rest, err := time.ParseDuration(text)
		if err != nil || rest < 0 || rest > math.MaxInt64-sum || strings.HasPrefix(text, "+") {
			return 0, false
		}
		sum += rest
	}
	if negative {
		sum = -sum
	}
	return sum, true
}

// String returns d in its shortest form: "7d", "1d12h", "15m".
func (d Duration) String() string {
	whole := time.Duration(d)
	if whole < 0 && whole > math.MinInt64 {
		return "-" + (-d).String()
	}
	text := ""
	if days := whole / day; days > 0 {
		text, whole = fmt.Sprintf("%dd", days), whole%day
	}
	if whole == 0 && text != "" {
		return text
	}
	rest := whole.String()
	if strings.HasSuffix(rest, "m0s") {
		rest = strings.TrimSuffix(rest, "0s")
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = strings.TrimSuffix(rest, "0m")
	}
	return text + rest
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Set implements a flag's value.
func (d *Duration) Set(text string) error { return d.UnmarshalText([]byte(text)) }

// Type implements a flag's value.
func (d *Duration) Type() string { return "duration" }
