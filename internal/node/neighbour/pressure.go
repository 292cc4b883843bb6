package neighbour

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"every.channel/ec-verify/internal/hostfile"
)

// ProcPressure is the directory with the pressure of the whole machine.
const ProcPressure = "/proc/pressure"

// Stalls are the times, since the boot, during which at least one task waited.
type Stalls struct {
	CPU time.Duration // for a processor
	IO  time.Duration // for a disk
}

// ReadStalls reads dir/cpu and dir/io in the form of /proc/pressure (see
// Documentation/accounting/psi.rst of Linux). Kernels before 4.20, and those built or
// booted without it, have none: an error.
func ReadStalls(dir string) (Stalls, error) {
	var s Stalls
	for _, f := range []struct {
		name string
		to   *time.Duration
	}{{"cpu", &s.CPU}, {"io", &s.IO}} {
		text, err := hostfile.ReadSmall(filepath.Join(dir, f.name), maxPressure)
		if err != nil {
			return s, err
		}
		if *f.to, err = parseSome(text); err != nil {
			return s, fmt.Errorf("%s: %w", filepath.Join(dir, f.name), err)
		}
	}
	return s, nil
}

// maxPressure limits a file of /proc/pressure, which has some 130 bytes.
const maxPressure = 4096

// parseSome returns the total, in microseconds, of the line
//
//	some avg10=0.00 avg60=0.00 avg300=0.00 total=0
func parseSome(text []byte) (time.Duration, error) {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "some" {
			continue
		}
		for _, field := range fields[1:] {
			if total, ok := bytes.CutPrefix(field, []byte("total=")); ok {
				us, err := strconv.ParseInt(string(total), 10, 64)
				if err != nil || us < 0 || us > int64(1<<63-1)/int64(time.Microsecond) {
					return 0, fmt.Errorf("not a number of microseconds: %q", total)
				}
				return time.Duration(us) * time.Microsecond, nil
			}
		}
	}
	return 0, errors.New(`no line "some … total=N"`)
}

// A reading is the totals at one time.
type reading struct {
	Stalls
	at time.Time
}

// pressure is the share of the time between two readings, in percent.
type pressure struct{ cpu, io float64 }

func between(a, b reading) pressure {
	elapsed := b.at.Sub(a.at)
	if elapsed <= 0 {
		return pressure{}
	}
	// A total that decreases means that the kernel started anew.
	share := func(a, b time.Duration) float64 { return 100 * float64(max(0, b-a)) / float64(elapsed) }
	return pressure{cpu: min(100, share(a.CPU, b.CPU)), io: min(100, share(a.IO, b.IO))}
}

func (p pressure) above(limit float64) bool { return p.cpu > limit || p.io > limit }

func (p pressure) String() string { return fmt.Sprintf("cpu %.0f %%, io %.0f %%", p.cpu, p.io) }
