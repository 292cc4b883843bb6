package runlock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	// holderName is the file in the state directory that says who holds the
	// lock. Unlike the lock, everybody may read it.
	holderName = "run.json"
	maxHolder  = 16 << 10
	// maxProc bounds what is read of a file in /proc.
	maxProc = 64 << 10
	// maxCommand bounds what is kept of a command line, in bytes.
	maxCommand = 1 << 10
)

// Holder is who holds a lock, as far as it says itself.
type Holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Unit is the systemd service that it runs in; "" where it runs in none,
	// which is by hand.
	Unit string `json:"unit"`
	// Command is its command line, of at most 1 KiB. It is not escaped.
	Command string `json:"command"`
	// Ticks is when the process started, in the kernel's own count since the
	// machine did. It tells a process from a later one of the same number.
	Ticks uint64 `json:"ticks"`
	// Look says that it is no run of the policy: that it dies leaves the machine's
	// standing as it is.
	Look bool `json:"look,omitzero"`
	// Died is the run of the policy that died before a look: a look does not answer
	// for it.
	Died *Holder `json:"died,omitzero"`
}

// Self is this process, which begins now.
func Self(now time.Time) Holder {
	command := strings.ToValidUTF8(strings.Join(os.Args, " "), "?")
	if len(command) > maxCommand {
		command = strings.ToValidUTF8(command[:maxCommand], "")
	}
	ticks, _ := started(os.Getpid())
	return Holder{PID: os.Getpid(), Since: now.UTC().Truncate(time.Second), Unit: unit(), Command: command, Ticks: ticks}
}

// String names the holder for people: by its unit, or else by what was typed.
func (h Holder) String() string {
	who := h.Command
	if h.Unit != "" {
		who = h.Unit
	}
	return fmt.Sprintf("process %d (%s) since %s", h.PID, who, h.Since.Format(time.RFC3339))
}

func (h Holder) write(file string) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// In place: whoever finds half of it knows as little as without it, and no
	// kill leaves another file behind.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644) //nolint:gosec // for everybody to read
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}

// Look returns who holds the lock of the state directory dir, and whether that
// is known: it is not where nobody does, where the process that the directory
// names is gone, and where it can't be seen from here. It takes no lock, and
// anybody may ask.
func Look(dir string) (Holder, bool) {
	if h, named := readHolder(dir); named && h.lives() {
		h.Died = nil
		return h, true
	}
	return Holder{}, false
}

// Died returns who held the lock of the state directory dir last, if that process
// is gone and has not released it: it crashed or was killed, or the machine lost
// its power. Of a run of the policy that is so until there is another one, whatever
// looks there were since. It takes no lock, and anybody may ask who sees the processes of others.
func Died(dir string) (Holder, bool) {
	h, named := readHolder(dir)
	switch {
	case named && h.Died != nil:
		return *h.Died, true
	case named && !h.lives():
		return h, true
	}
	return Holder{}, false
}

func readHolder(dir string) (Holder, bool) {
	data, err := hostfile.ReadSmallNoFollow(filepath.Join(dir, holderName), maxHolder)
	if err != nil {
		return Holder{}, false
	}
	var h Holder
	if err := json.Unmarshal(data, &h); err != nil || h.PID <= 0 {
		return Holder{}, false
	}
	return h, true
}

// lives reports whether the process of h can be seen.
func (h Holder) lives() bool {
	ticks, err := started(h.PID)
	return err == nil && ticks == h.Ticks
}

// started returns when a process started; see proc_pid_stat(5), field 22.
func started(pid int) (uint64, error) {
	data, err := hostfile.ReadSmall(fmt.Sprintf("/proc/%d/stat", pid), maxProc)
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses and may hold anything.
	_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest))
	if len(fields) < 20 {
		return 0, errors.New("malformed /proc/PID/stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// unit returns the system's service whose cgroup this process is in, "" where that
// is none; see cgroups(7). A session's is a scope, and a user's service has a name of
// the user's choice.
func unit() string {
	data, err := hostfile.ReadSmall("/proc/self/cgroup", maxProc)
	if err != nil {
		return ""
	}
	return unitOf(string(data))
}

// unitOf reads /proc/PID/cgroup: lines "number:controllers:path", the unified
// hierarchy being number 0 without controllers.
func unitOf(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			if name := path.Base(p); strings.HasSuffix(name, ".service") && !strings.Contains(p, "/user.slice/") {
				return name
			}
		}
	}
	return ""
}
