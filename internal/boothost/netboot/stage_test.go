package netboot_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

const (
	first  = releasetest.Tag
	second = release.Tag("boot-v2026.03.05")
)

// believing takes the one signature that the releases of these tests have.
type believing struct{}

func (believing) Verify(_ context.Context, _, bundle []byte) (release.Signer, error) {
	if string(bundle) != "good" {
		return release.Signer{}, release.Untrusted(release.ReasonBadSignature, "bad bundle")
	}
	return release.Signer{Kind: release.SignedByKey, Name: "test"}, nil
}

// script is the netboot.ipxe of the bundle of tag.
func script(tag release.Tag) string {
	return "#!ipxe\nkernel kernel init=/nix/store/" + strings.Repeat("a", 32) + "-nixos-system/init initrd=initrd of=" + string(tag) + " ${cmdline}\ninitrd initrd\nboot\n"
}

// contents is what a file of the bundle of tag holds, of size bytes.
func contents(tag release.Tag, name string, size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	for block := sha256.Sum256([]byte(string(tag) + name)); len(out) < size; block = sha256.Sum256(block[:]) {
		out = append(out, block[:]...)
	}
	return out[:size]
}

const (
	kernelSize = 300 << 10
	initrdSize = 3 << 20
)

// tarball is a bundle. It may be damaged by edit.
func tarball(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, name := range []string{"kernel", "initrd", "netboot.ipxe", "extra"} {
		data, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func usual(tag release.Tag) map[string][]byte {
	return map[string][]byte{"kernel": contents(tag, "kernel", kernelSize), "initrd": contents(tag, "initrd", initrdSize), "netboot.ipxe": []byte(script(tag))}
}

func tarballName(tag release.Tag) string {
	return "ec-runner-x86_64-netboot-" + string(tag) + ".tar.gz"
}

// publish writes the release tag with its bundle into dir, signed.
func publish(t testing.TB, dir string, tag release.Tag, files map[string][]byte) string {
	t.Helper()
	sub := filepath.Join(dir, string(tag))
	created := releasetest.Created
	if tag == second {
		created = created.AddDate(0, 0, 5)
	}
	releasetest.Write(t, sub, releasetest.Spec{Tag: tag, Created: created})
	releasetest.File(t, sub, tarballName(tag), tarball(t, files))
	if err := release.WriteSums(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, sub, release.BundleName, []byte("good"))
	return sub
}

func open(ctx context.Context, dir string, tag release.Tag) (*release.Release, error) {
	return release.Open(ctx, release.NewDirSource(dir), tag, believing{}, release.WithClock(clock))
}

func clock() time.Time { return releasetest.Now }

func stager(dir string) netboot.Stager {
	return netboot.Stager{Dir: dir, URL: "http://10.0.0.2", Tarball: "*-netboot*.tar.gz", Open: open}
}

func stage(ctx context.Context, s netboot.Stager, releases string, tag release.Tag) (*netboot.Staged, error) {
	return s.Stage(ctx, func(ctx context.Context) (*release.Release, error) { return open(ctx, releases, tag) })
}

// served returns the tag that dir serves, the whole of it having been looked
// at as the servers do, by name; "" where it serves nothing.
func served(dir string) (release.Tag, error) {
	current := filepath.Join(dir, "current")
	ipxe, err := os.ReadFile(filepath.Join(current, "netboot.ipxe"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(current); err == nil {
			return "", fmt.Errorf("%s leads nowhere", current)
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name, err := os.Readlink(current)
	if err != nil {
		return "", err
	}
	name = filepath.Base(name)
	for _, tag := range []release.Tag{first, second} {
		want := "kernel ${ec-stage}/kernel init=/nix/store/" + strings.Repeat("a", 32) + "-nixos-system/init initrd=initrd of=" + string(tag) + " ||"
		if !strings.Contains(string(ipxe), want) || !strings.Contains(string(ipxe), "/${ec-token}/"+name+"\n") {
			continue
		}
		for file, size := range map[string]int{"kernel": kernelSize, "initrd": initrdSize} {
			got, err := os.ReadFile(filepath.Join(dir, "stages", name, file))
			if err != nil {
				return "", err
			}
			if !bytes.Equal(got, contents(tag, file, size)) {
				return "", fmt.Errorf("%s of %s: %d bytes, not those of the release", file, name, len(got))
			}
		}
		return tag, nil
	}
	return "", fmt.Errorf("the script is of no release: %q", ipxe)
}

func mustServe(t *testing.T, dir string, want release.Tag) {
	t.Helper()
	if got, err := served(dir); err != nil || got != want {
		t.Errorf("served: got %q, %v; want %q", got, err, want)
	}
}

// names lists what a directory holds.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestStage(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	for _, tag := range []release.Tag{first, second} {
		publish(t, releases, tag, usual(tag))
	}
	s := stager(dir)
	a, err := stage(t.Context(), s, releases, first)
	if err != nil || !a.Fetched || !a.Switched || a.Replaced != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	mustServe(t, dir, first)
	again, err := stage(t.Context(), s, releases, first)
	if err != nil || again.Fetched || again.Switched {
		t.Errorf("again: %+v, %v", again, err)
	}
	b, err := stage(t.Context(), s, releases, second)
	if err != nil || !b.Fetched || !b.Switched || b.Replaced != a.Name {
		t.Fatalf("%+v, %v", b, err)
	}
	mustServe(t, dir, second)
	if previous, err := s.Previous(); err != nil || previous != a.Name {
		t.Errorf("previous: %q, %v", previous, err)
	}
	if _, err := s.Check(t.Context(), a.Name); err != nil {
		t.Errorf("the previous one: %v", err)
	}
	t.Run("only the two are kept", func(t *testing.T) {
		moved := s
		moved.URL = "http://10.0.0.3"
		c, err := stage(t.Context(), moved, releases, second)
		if err != nil || !c.Switched || c.Name == b.Name {
			t.Fatalf("%+v, %v", c, err)
		}
		if got, want := names(t, filepath.Join(dir, "stages")), b.Name+" "+c.Name; got != want && got != c.Name+" "+b.Name {
			t.Errorf("stages: %s", got)
		}
		if got := names(t, dir); got != ".lock current previous stages" {
			t.Errorf("left behind: %s", got)
		}
		if _, err := stage(t.Context(), s, releases, second); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("and back", func(t *testing.T) {
		back, err := stage(t.Context(), s, releases, first)
		if err != nil || !back.Switched {
			t.Fatalf("%+v, %v", back, err)
		}
		mustServe(t, dir, first)
	})
	t.Run("one that was altered", func(t *testing.T) {
		name, err := s.Current()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "stages", name, "kernel")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[1000] ^= 1
		if err := os.WriteFile(file, data, 0o640); err != nil {
			t.Fatal(err)
		}
		var altered *netboot.AlteredError
		if _, err := s.Check(t.Context(), name); !errors.As(err, &altered) || altered.Name != file {
			t.Errorf("check: %v", err)
		}
		mended, err := stage(t.Context(), s, releases, first)
		if err != nil || !mended.Fetched || mended.Switched {
			t.Errorf("%+v, %v", mended, err)
		}
		mustServe(t, dir, first)
		// Each is seen, is told from a disk that cannot be read, and mended.
		sub := filepath.Join(dir, "stages", name)
		for what, script := range map[string]string{
			"a file is missing":     "rm kernel",
			"a link for a file":     "mv initrd ../initrd-elsewhere; ln -s ../initrd-elsewhere initrd",
			"a pipe for a file":     "rm kernel; mkfifo kernel",
			"a directory for one":   "rm kernel; mkdir kernel",
			"another record":        "sed -i 's/" + string(first) + "/boot-v9/' stage.json",
			"a record of nothing":   "echo '{}' >stage.json",
			"no record":             "rm stage.json",
			"a pipe for the record": "rm stage.json; mkfifo stage.json",
			"another stage":         "cp ../" + b.Name + "/* . 2>/dev/null || true",
			"nothing":               "rm -r ../" + name,
			"a link to elsewhere":   "mv ../" + name + " ../../elsewhere; ln -s ../elsewhere ../" + name,
		} {
			if out, err := exec.Command("sh", "-euc", `cd "$1"; `+script, "sh", sub).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", what, err, out)
			}
			if _, err := s.Check(t.Context(), name); !errors.As(err, &altered) {
				t.Errorf("%s: check says %v", what, err)
			}
			if v, err := s.CheckServed(t.Context()); err != nil || !errors.As(v.Current.Err, &altered) || v.Current.Name != name {
				t.Errorf("%s: check of what is served says %+v, %v", what, v, err)
			}
			mended, err := stage(t.Context(), s, releases, first)
			if err != nil || !mended.Fetched || mended.Switched {
				t.Errorf("%s: %+v, %v", what, mended, err)
			}
			mustServe(t, dir, first)
			os.RemoveAll(filepath.Join(dir, "elsewhere"))
			os.Remove(filepath.Join(dir, "stages", "initrd-elsewhere"))
		}
	})
	t.Run("only its user and group can read", func(t *testing.T) {
		err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().Type() != os.ModeSymlink && info.Mode().Perm()&0o007 != 0 && !strings.Contains(name, "/release") && name != dir {
				return fmt.Errorf("%s is for %v", name, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("another run at work", func(t *testing.T) {
		f, err := os.Open(filepath.Join(dir, ".lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if _, err := stage(t.Context(), s, releases, second); err == nil || !strings.Contains(err.Error(), "another run") {
			t.Errorf("got %v", err)
		}
	})
}

// TestStageInForeignDirectory: nothing is removed that is no stage.
func TestStageInForeignDirectory(t *testing.T) {
	releases, dir := t.TempDir(), t.TempDir()
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	theirs := []string{"stages/theirs", "stages/scripts-of-the-theatre", "stages/boot-v1-0123456789aX", ".tmp-theirs", "fetched"}
	for _, name := range theirs {
		if err := os.MkdirAll(filepath.Join(dir, name, "play"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tag := range []release.Tag{first, second, first} {
		if _, err := stage(t.Context(), stager(dir), releases, tag); err != nil {
			t.Fatal(err)
		}
	}
	s := stager(dir)
	if _, err := s.Clear(); err != nil {
		t.Error(err)
	}
	for _, name := range theirs {
		if _, err := os.Stat(filepath.Join(dir, name, "play")); err != nil {
			t.Error(err)
		}
	}
}

// TestStageBesideMount: what is mounted in a directory that is to go is somebody
// else's, and stays.
func TestStageBesideMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	dir, releases := filepath.Join(t.TempDir(), "www"), t.TempDir()
	other := t.TempDir()
	precious, gone := filepath.Join(other, "file"), filepath.Join(dir, "stages", ".tmp-1", "place")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.MkdirAll(gone, 0o750)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(other, gone, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("no mounts here: ", err)
	}
	publish(t, releases, first, usual(first))
	_, err := stage(t.Context(), stager(dir), releases, first)
	if unmount := syscall.Unmount(gone, syscall.MNT_DETACH); unmount != nil {
		t.Fatal(unmount)
	}
	if err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("%v, want it to name %s", err, gone)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted: %v", err)
	}
	if _, err := stage(t.Context(), stager(dir), releases, first); err != nil {
		t.Errorf("without the mount: %v", err)
	}
}

// TestStageAsAnother: what root would put into the directory of the servers' user,
// they could not read, and their next run not remove.
func TestStageAsAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root to be another user than the directory's")
	}
	releases, dir := t.TempDir(), t.TempDir()
	publish(t, releases, first, usual(first))
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t.Context(), stager(dir), releases, first); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("stage: %v", err)
	}
	if err := netboot.Render(dir, "http://10.0.0.2", chainToken, nil); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("render: %v", err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("it wrote %s", got)
	}
	// Who takes back may be root, and leaves nothing that keeps the user out.
	s := stager(dir)
	if err := os.Mkdir(filepath.Join(dir, "stages"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, ".lock"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("the lock: %v, %v", info, err)
	}
}

// TestOlderReleaseDoesNotReturn: if two runs overlap, the one that found the older release
// does not restore it after the other has staged the newer one.
func TestOlderReleaseDoesNotReturn(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	_, err := s.Stage(t.Context(), func(ctx context.Context) (*release.Release, error) {
		older, err := open(ctx, releases, first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stage(ctx, s, releases, second); err == nil || !strings.Contains(err.Error(), "another run") {
			t.Errorf("a second run comes between: %v", err)
		}
		return older, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckWhileSwitched: what is served is whole at each moment, and a check of it
// says so, whatever other runs do meanwhile.
func TestCheckWhileSwitched(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		// Three stages, so that the one that is looked at is removed.
		for i := 0; i < 15 && err == nil; i++ {
			moved := s
			moved.URL = netboot.BaseURL(fmt.Sprintf("http://10.0.0.%d", i%3+2))
			_, err = stage(context.Background(), moved, releases, []release.Tag{first, second}[i%2])
		}
		done <- err
	}()
	for {
		moved := s
		moved.URL = ""
		v, err := moved.CheckServed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range v.All() {
			if c.Err != nil {
				t.Errorf("check: %v", c.Err)
			}
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// TestStageRefuses: whatever is wrong with a release, the one before goes on
// being served and nothing of the other is left.
func TestStageRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "www")
	releases := t.TempDir()
	publish(t, releases, first, usual(first))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	before := names(t, filepath.Join(dir, "stages"))
	replace := func(name string, data []byte) func(map[string][]byte) {
		return func(f map[string][]byte) { f[name] = data }
	}
	for _, c := range []struct {
		name   string
		files  func(map[string][]byte)        // of the bundle, before it is signed
		edit   func(t *testing.T, sub string) // of the release, afterwards
		want   string
		reason release.Reason
	}{
		{name: "one byte of the tarball changed", reason: release.ReasonChecksum, want: "SHA-256", edit: func(t *testing.T, sub string) {
			data := releasetest.Read(t, sub, tarballName(second))
			data[len(data)/2] ^= 1
			releasetest.File(t, sub, tarballName(second), data)
		}},
		{name: "the tarball cut short", reason: release.ReasonChecksum, want: "SHA-256", edit: func(t *testing.T, sub string) {
			data := releasetest.Read(t, sub, tarballName(second))
			releasetest.File(t, sub, tarballName(second), data[:len(data)/2])
		}},
		{name: "the signature removed", reason: release.ReasonBadSignature, want: "bad bundle", edit: func(t *testing.T, sub string) {
			os.Remove(filepath.Join(sub, release.BundleName))
		}},
		{name: "the tag swapped", reason: release.ReasonWrongTag, want: string(first), edit: func(t *testing.T, sub string) {
			if err := os.RemoveAll(sub); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(sub, os.DirFS(filepath.Join(releases, string(first)))); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the tarball missing", want: "not found", edit: func(t *testing.T, sub string) {
			os.Remove(filepath.Join(sub, tarballName(second)))
		}},
		{name: "no bundle in the release", want: "netboot image", edit: func(t *testing.T, sub string) {
			os.Remove(filepath.Join(sub, tarballName(second)))
			if err := release.WriteSums(t.Context(), sub); err != nil {
				t.Fatal(err)
			}
			releasetest.File(t, sub, release.BundleName, []byte("good"))
		}},
		{name: "two bundles in the release", want: "--tarball", edit: func(t *testing.T, sub string) {
			releasetest.File(t, sub, "ec-runner-aarch64-netboot-x.tar.gz", []byte("x"))
			if err := release.WriteSums(t.Context(), sub); err != nil {
				t.Fatal(err)
			}
			releasetest.File(t, sub, release.BundleName, []byte("good"))
		}},
		{name: "a member too many", files: replace("extra", []byte("x")), want: `"extra"`, reason: netboot.ReasonMalformedNetboot},
		{name: "another script", files: replace("netboot.ipxe", []byte("#!ipxe\nshell\n")), want: "line 2", reason: netboot.ReasonMalformedNetboot},
		{name: "another system", files: replace("netboot.ipxe", []byte(strings.Replace(script(second), "-nixos-system/", "-nixos-system-evil/", 1))), want: "not the system of any of ec-runner-x86_64", reason: netboot.ReasonMalformedNetboot},
		{name: "a shell", files: replace("netboot.ipxe", []byte(strings.Replace(script(second), "init=/nix/store/"+strings.Repeat("a", 32)+"-nixos-system/init", "init=/bin/sh", 1))), want: "starts /bin/sh", reason: netboot.ReasonMalformedNetboot},
		{name: "no kernel", files: func(f map[string][]byte) { delete(f, "kernel") }, want: "no kernel", reason: netboot.ReasonMalformedNetboot},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := usual(second)
			if c.files != nil {
				c.files(files)
			}
			sub := publish(t, releases, second, files)
			t.Cleanup(func() { os.RemoveAll(sub) })
			if c.edit != nil {
				c.edit(t, sub)
			}
			_, err := stage(t.Context(), s, releases, second)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			var untrusted *release.UntrustedError
			if errors.As(err, &untrusted) != (c.reason != "") || untrusted != nil && (untrusted.Reason != c.reason || untrusted.Tag != second) {
				t.Errorf("got %+v, want reason %q", untrusted, c.reason)
			}
			mustServe(t, dir, first)
			if got := names(t, filepath.Join(dir, "stages")); got != before {
				t.Errorf("stages: %s", got)
			}
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		r, err := release.Open(t.Context(), release.NewDirSource(releases), first, unsigned{}, release.WithClock(func() time.Time { return releasetest.Now }))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stage(t.Context(), func(context.Context) (*release.Release, error) { return r, nil }); !errors.Is(err, netboot.ErrUnsigned) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a directory for the link", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "current"), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := stage(t.Context(), stager(dir), releases, first); err == nil || !strings.Contains(err.Error(), "current is no link; remove it") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a link that was bent", func(t *testing.T) {
		current := filepath.Join(dir, "current")
		os.Remove(current)
		if err := os.Symlink("/etc", current); err != nil {
			t.Fatal(err)
		}
		if _, err := stage(t.Context(), s, releases, first); err == nil || !strings.Contains(err.Error(), "no stage") {
			t.Errorf("got %v", err)
		}
	})
}

type unsigned struct{}

func (unsigned) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.Unsigned}, nil
}

// TestStageInterrupted: a context that ends does, and the one before is served.
func TestStageInterrupted(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	r, err := open(t.Context(), releases, second)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Stage(ctx, func(context.Context) (*release.Release, error) { return r, nil }); err == nil {
		t.Error("it goes on")
	}
	mustServe(t, dir, first)
}

// TestSwitchInOneStep: who looks while releases are switched always finds one.
func TestSwitchInOneStep(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "current", "netboot.ipxe")); err != nil {
				failed <- err
				return
			}
		}
	}()
	for i := range 20 {
		tag := second
		if i%2 == 1 {
			tag = first
		}
		if _, err := stage(t.Context(), s, releases, tag); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-failed; err != nil {
		t.Errorf("while a release was switched: %v", err)
	}
}

// The user whose directory it is does not get a file of root's by a hard link to it.
func TestLockOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root to be another user than the directory's")
	}
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600), os.Link(secret, filepath.Join(dir, ".lock")),
		os.Mkdir(filepath.Join(dir, "stages"), 0o750), os.Chown(dir, 65534, 65534),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := stager(dir)
	if _, err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(secret); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("it was given away: %v, %v", info, err)
	}
}
