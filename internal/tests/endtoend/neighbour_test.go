package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// contents are the release's files as seen from outside, but for its sources,
// which nix reads as well.
func (m *machine) contents() (files []string) {
	m.t.Helper()
	store := m.Path("/nix/store")
	for _, info := range m.manifest.Paths {
		if strings.HasSuffix(info.Path.Name(), "source") {
			continue
		}
		err := filepath.WalkDir(filepath.Join(store, info.Path.Base()), func(name string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return files
}

// evict has files leave the page cache.
func evict(t *testing.T, files []string) {
	t.Helper()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// cached returns how many bytes of files are in the page cache.
func cached(t *testing.T, files []string) (n int64) {
	t.Helper()
	out, err := exec.Command("fincore", append([]string{"--bytes", "--noheadings", "--output", "RES"}, files...)...).Output()
	if err != nil {
		t.Fatalf("fincore: %v", err)
	}
	for _, field := range strings.Fields(string(out)) {
		bytes, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes
	}
	return n
}

// The unit leaves the page cache as it was, also where the kernel does not do so
// by itself, as on the overlay of a test host.
func TestPageCache(t *testing.T) {
	t.Parallel()
	m := startUnit(t, `, "neighbour": {"dropBehind": false}`)
	// The files of a runner are those of all runners that there are, and cached for
	// all of them. A change, if only to what they are, gives this one its own.
	m.Run("sh", "-euc", "find /nix/store -type f -exec chmod u+r {} +")
	unix.Sync() // what is not yet on the disk stays in the cache
	files := m.contents()
	run := func() int64 {
		evict(t, files)
		if got, _ := m.runUnit(); got != "success 0" {
			t.Fatalf("the unit ends with %s", got)
		}
		return cached(t, files)
	}
	// The machine may have had other use for the memory.
	n := run()
	for again := 0; n < 1<<20 && again < 5; again++ {
		n = run()
	}
	if n < 1<<20 {
		t.Skipf("%d bytes are in the page cache after a run that fills it: this fincore does not see through an overlay", n)
	}
	m.installUnit("")
	// Other tiers read a small file or two before the contents are hashed, as does the
	// machine at any time.
	if n := run(); n > 64<<10 {
		t.Errorf("%d bytes are in the page cache after a run, none were before", n)
	}
}

// A run with a limit of pressure pauses, says so, and ends.
func TestGivesWay(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.write("/etc/ec-verify/config.json", `{"neighbour": {"rate": 20971520, "maxPressure": 100, "maxPause": "1s"}}`)
	m.verify().expect(t, "verified", 0)
	// A machine that does not tell its pressure is verified without pauses.
	m.Run("mount", "-t", "tmpfs", "none", "/proc/pressure")
	defer m.Run("umount", "/proc/pressure")
	a := m.verify()
	a.expect(t, "verified", 0)
	if !slices.ContainsFunc(a.Findings, func(f finding) bool { return f.Cause == "pressure-unknown" }) {
		t.Errorf("it is not said that the pressure is not known: %+v", a.Findings)
	}
}
