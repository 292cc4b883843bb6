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
	// holderName is the file in the state directory that names the lock's holder. Unlike
	// the lock, everybody may read it.
	holderName = "run.json"
	maxHolder  = 16 << 10
	// maxProc limits what is read of a file in /proc, in bytes.
	maxProc = 64 << 10
	// maxCommand limits what is kept of a command line, in bytes.
	maxCommand = 1 << 10
)

// Holder is the holder of a lock, by its own account.
type Holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Unit is its systemd service; "" if it runs in none, that is by hand.
	Unit string `json:"unit"`
	// Command is its command line, of at most 1 KiB. It is not escaped.
	Command string `json:"command"`
	// Ticks is when the process started, in the kernel's ticks since the boot. It
	// distinguishes a process from a later one with the same number.
	Ticks uint64 `json:"ticks"`
	// Look means that it is not a run of the policy: if it dies, the machine's standing
	// is unchanged.
	Look bool `json:"look,omitzero"`
	// Died is the run of the policy that died before a look: a look does not make up for
	// it.
	Died *Holder `json:"died,omitzero"`
}

// Self returns this process as a holder that starts now.
func Self(now time.Time) Holder {
	command := strings.ToValidUTF8(strings.Join(os.Args, " "), "?")
	if len(command) > maxCommand {
		command = strings.ToValidUTF8(command[:maxCommand], "")
	}
	ticks, _ := started(os.Getpid())
	return Holder{PID: os.Getpid(), Since: now.UTC().Truncate(time.Second), Unit: unit(), Command: command, Ticks: ticks}
}

// String names the holder for people: by its unit, or else by its command line.
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
	// Written in place: half of it says as little as none, and a killed process leaves no
	// other file behind.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644) //nolint:gosec // for everybody to read
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}

// Look returns the holder of the lock of the state directory dir, and whether it is
// known: it is not if there is none, if the named process is gone, or if it can't be seen
// from here. It takes no lock, and anybody may call it.
func Look(dir string) (Holder, bool) {
	if h, named := readHolder(dir); named && h.lives() {
		h.Died = nil
		return h, true
	}
	return Holder{}, false
}

// Died returns the last holder of the lock of the state directory dir, if that process is
// gone without having released it: it crashed or was killed, or the machine lost power. A
// run of the policy that died is returned until the next one, whatever looks came since.
// It takes no lock, and anybody who sees the processes of others may call it.
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
	// The second field is a name in parentheses, which may contain anything.
	_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest))
	if len(fields) < 20 {
		return 0, errors.New("malformed /proc/PID/stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// unit returns the system service of this process's cgroup, "" for none; see cgroups(7).
// A session is a scope, and users choose the names of their own services.
func unit() string {
	data, err := hostfile.ReadSmall("/proc/self/cgroup", maxProc)
	if err != nil {
		return ""
	}
	return unitOf(string(data))
}

// unitOf parses /proc/PID/cgroup: lines "number:controllers:path"; the unified hierarchy
// has number 0 and no controllers.
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
