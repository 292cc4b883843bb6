package neighbour

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReadStalls(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadStalls(dir); err == nil {
		t.Error("no error where there is nothing")
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("cpu", "some avg10=1.50 avg60=0.00 avg300=0.00 total=4446120418\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
	write("io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n")
	got, err := ReadStalls(dir)
	if want := (Stalls{CPU: 4446120418 * time.Microsecond, IO: 12 * time.Microsecond}); err != nil || got != want {
		t.Errorf("ReadStalls = %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{
		"", "\n", "full total=1\n", "some\n", "some total=\n", "some total=x\n", "some total=-1\n", "some avg10=1\n",
		"some total=99999999999999999999\n", "some total=9223372036854775807\n",
	} {
		write("io", bad)
		if got, err := ReadStalls(dir); err == nil {
			t.Errorf("%q: ReadStalls = %v, want an error", bad, got)
		}
	}
}

// The machine that the tests run on tells its pressure, or that is an error.
func TestReadStallsHere(t *testing.T) {
	a, err := ReadStalls(ProcPressure)
	if text, readErr := os.ReadFile(filepath.Join(ProcPressure, "cpu")); readErr != nil || len(text) == 0 {
		if err == nil {
			t.Errorf("without pressure stall information: %v", a)
		}
		return
	}
	b, err2 := ReadStalls(ProcPressure)
	if err != nil || err2 != nil || b.CPU < a.CPU || b.IO < a.IO {
		t.Errorf("after %v, %v comes %v, %v", a, err, b, err2)
	}
}

func TestBetween(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	a := reading{Stalls{CPU: time.Second, IO: time.Second}, start}
	for _, tc := range []struct {
		name string
		b    reading
		want pressure
	}{
		{"a share each", reading{Stalls{CPU: 1500 * time.Millisecond, IO: 1100 * time.Millisecond}, start.Add(time.Second)}, pressure{cpu: 50, io: 10}},
		{"no time", reading{Stalls{CPU: time.Hour}, start}, pressure{}},
		{"a clock that was set back", reading{Stalls{CPU: time.Hour}, start.Add(-time.Hour)}, pressure{}},
		{"counted anew", reading{Stalls{}, start.Add(time.Second)}, pressure{}},
		{"more than there was", reading{Stalls{CPU: time.Hour, IO: time.Second}, start.Add(time.Second)}, pressure{cpu: 100}},
	} {
		if got := between(a, tc.b); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func FuzzParseSome(f *testing.F) {
	f.Add([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull total=1"))
	f.Add([]byte("some total=18446744073709551615"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := parseSome(text); d < 0 || err != nil && d != 0 {
			t.Errorf("%q gives %v, %v", text, d, err)
		}
	})
}
