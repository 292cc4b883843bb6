package netboot_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
)

// shell runs a script in dir.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-euc", `cd "$1"; `+script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// TestCheckAnswersToTheRelease: whoever changes what is served, and everything that
// this host has written down of it, is told by the signed release; and the next run
// mends it.
func TestCheckAnswersToTheRelease(t *testing.T) {
	releases := t.TempDir()
	publish(t, releases, first, usual(first))
	// Another bundle under the same tag, that nobody has signed.
	evil := filepath.Join(t.TempDir(), string(first))
	files := usual(first)
	files["kernel"] = contents("evil", "kernel", kernelSize)
	publish(t, filepath.Dir(evil), first, files)
	shell(t, evil, "printf bad >"+release.BundleName)
	for _, c := range []struct {
		name      string
		script    string // in the stage, $E being the other release
		untrusted bool
		in        string // the file that is named
	}{
		{name: "a kernel, of the same size", script: "printf X | dd of=kernel bs=1 seek=1000 conv=notrunc 2>/dev/null", in: "kernel"},
		{name: "an initrd, and what was noted of it", script: `printf more >>initrd; touch -r kernel initrd stage.json`, in: "initrd"},
		{name: "the script", script: `sed -i 's/initrd=initrd/initrd=initrd init=\/bin\/sh/' netboot.ipxe`, in: "netboot.ipxe"},
		{name: "the script, and where it leads", script: `sed -i 's,http://10.0.0.2,http://10.6.6.6,' netboot.ipxe stage.json`, in: "stage.json"},
		{name: "the bundle with the kernel", script: `tar -xzOf "$E"/ec-*.tar.gz kernel >kernel; cp "$E"/ec-*.tar.gz release/`, in: "release/ec-"},
		{name: "the bundle and its checksum", script: `tar -xzOf "$E"/ec-*.tar.gz kernel >kernel; cp "$E"/ec-*.tar.gz "$E"/SHA256SUMS.txt release/`, in: "release/SHA256SUMS.txt"},
		{name: "the signature", script: `printf bad >release/SHA256SUMS.txt.sigstore.json`, untrusted: true},
		{name: "no signature", script: `rm release/SHA256SUMS.txt.sigstore.json`, in: "release/SHA256SUMS.txt.sigstore.json"},
		{name: "release.json", script: `echo >>release/release.json`, in: "release/release.json"},
		{name: "no bundle", script: `rm release/*.tar.gz`, in: "release/ec-"},
		{name: "a link for the bundle", script: `mv release/*.tar.gz ../../bundle; ln -s ../../../bundle "release/$(basename "$E"/*.tar.gz)"`, in: "release/ec-"},
		{name: "a file too many", script: `echo x >autoexec.ipxe`, in: "autoexec.ipxe"},
		{name: "a file too many with the release", script: `mkdir release/boot-v2026.02.28`, in: "release/boot-v2026.02.28"},
		{name: "no release", script: `rm -r release`, in: "release"},
		{name: "a link for the release", script: `mv release ../../kept; ln -s ../../kept release`, in: "release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "www")
			s := stager(dir)
			staged, err := stage(t.Context(), s, releases, first)
			if err != nil {
				t.Fatal(err)
			}
			sub := filepath.Join(dir, "stages", staged.Name)
			shell(t, sub, "E="+evil+"; "+c.script)
			v, err := s.CheckServed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var altered *netboot.AlteredError
			var untrusted *release.UntrustedError
			switch {
			case c.untrusted:
				if !errors.As(v.Current.Err, &untrusted) {
					t.Errorf("got %v", v.Current.Err)
				}
			case !errors.As(v.Current.Err, &altered) || !strings.HasPrefix(altered.Name, filepath.Join(sub, c.in)):
				t.Errorf("got %v, want one that names %s", v.Current.Err, c.in)
			}
			if mended, err := stage(t.Context(), s, releases, first); err != nil || !mended.Fetched {
				t.Errorf("staged again: %+v, %v", mended, err)
			}
			if v, err := s.CheckServed(t.Context()); err != nil || v.Current.Err != nil || len(v.Strays) > 0 {
				t.Errorf("mended: %+v, %v", v, err)
			}
			mustServe(t, dir, first)
		})
	}
}

// TestCheckForgedStage: everything in the stage is forged, and its name with it.
func TestCheckForgedStage(t *testing.T) {
	releases, forged := t.TempDir(), t.TempDir()
	publish(t, releases, first, usual(first))
	files := usual(first)
	files["kernel"] = contents("evil", "kernel", kernelSize)
	publish(t, forged, first, files)
	dir := filepath.Join(t.TempDir(), "www")
	s := stager(dir)
	any := s
	believe := func(ctx context.Context, dir string, tag release.Tag) (*release.Release, error) {
		return release.Open(ctx, release.NewDirSource(dir), tag, everybody{}, release.WithClock(clock))
	}
	any.Open = believe
	if _, err := any.Stage(t.Context(), func(ctx context.Context) (*release.Release, error) { return believe(ctx, forged, first) }); err != nil {
		t.Fatal(err)
	}
	shell(t, dir, "for f in stages/*/release/"+release.BundleName+`; do printf bad >"$f"; done`)
	v, err := s.CheckServed(t.Context())
	var untrusted *release.UntrustedError
	if err != nil || !errors.As(v.Current.Err, &untrusted) || untrusted.Reason != release.ReasonBadSignature {
		t.Errorf("%+v, %v", v, err)
	}
	// Neither is it kept as the one before.
	staged, err := stage(t.Context(), s, releases, first)
	if err != nil || staged.Replaced != "" {
		t.Errorf("%+v, %v", staged, err)
	}
	if v, err := s.CheckServed(t.Context()); err != nil || len(v.All()) != 1 || v.Current.Err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	mustServe(t, dir, first)
	// Where machines are led is in no release: who asks says where that is to be.
	s.URL = "http://10.0.0.3"
	var altered *netboot.AlteredError
	if v, err := s.CheckServed(t.Context()); err != nil || !errors.As(v.Current.Err, &altered) || !strings.Contains(altered.Detail, "10.0.0.3") {
		t.Errorf("%+v, %v", v, err)
	}
}

type everybody struct{}

func (everybody) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.SignedByKey, Name: "anybody"}, nil
}

// TestCheckPrevious: the stage before is served as well, and so is whatever else
// lies there.
func TestCheckPrevious(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	a, err := stage(t.Context(), s, releases, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t.Context(), s, releases, second); err != nil {
		t.Fatal(err)
	}
	stages := filepath.Join(dir, "stages")
	shell(t, stages, "cp -r "+a.Name+" boot-v9-0123456789ab; mkdir boot-v9; echo x >boot-v9/kernel; printf more >>"+a.Name+"/kernel")
	v, err := s.CheckServed(t.Context())
	if err != nil || v.Current.Err != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	var altered *netboot.AlteredError
	if !errors.As(v.Previous.Err, &altered) || altered.Name != filepath.Join(stages, a.Name, "kernel") {
		t.Errorf("previous: %v", v.Previous.Err)
	}
	if len(v.Strays) != 2 || !errors.As(v.Strays[0].Err, &altered) || !errors.As(v.Strays[1].Err, &altered) || altered.Name != filepath.Join(stages, "boot-v9-0123456789ab", "stage.json") {
		t.Errorf("strays: %+v", v.Strays)
	}
	// The next run has it served no more. What nobody here has made is left to
	// whoever did, and named.
	if staged, err := stage(t.Context(), s, releases, second); err != nil || staged.Switched {
		t.Fatalf("%+v, %v", staged, err)
	}
	v, err = s.CheckServed(t.Context())
	if err != nil || v.Previous.Name != "" || len(v.Strays) != 1 || v.Strays[0].Name != "boot-v9" {
		t.Errorf("after the next run: %+v, %v", v, err)
	}
	mustServe(t, dir, second)
}

// TestStageRefusedOverAltered: what keeps the newer release away is not all there is
// to say where the one that is served was altered.
func TestStageRefusedOverAltered(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	_, err := stage(t.Context(), s, releases, second)
	var altered *netboot.AlteredError
	if !errors.Is(err, release.ErrNotFound) || errors.As(err, &altered) {
		t.Errorf("got %v", err)
	}
	shell(t, dir, "printf more >>current/kernel")
	_, err = stage(t.Context(), s, releases, second)
	if !errors.Is(err, release.ErrNotFound) || !errors.As(err, &altered) {
		t.Errorf("got %v", err)
	}
}

// TestRollbackAndClear: back to the previous release in one step, if it is valid; or to
// no release at all.
func TestRollbackAndClear(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rollback(t.Context()); err == nil || !strings.Contains(err.Error(), "no earlier release to return to") {
		t.Errorf("got %v", err)
	}
	if _, err := stage(t.Context(), s, releases, second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []release.Tag{first, second, first} {
		back, err := s.Rollback(t.Context())
		if err != nil || back.Tag != want || back.Replaced == "" {
			t.Fatalf("%+v, %v", back, err)
		}
		mustServe(t, dir, want)
	}
	shell(t, dir, "printf more >>previous/initrd")
	var altered *netboot.AlteredError
	if _, err := s.Rollback(t.Context()); !errors.As(err, &altered) {
		t.Errorf("got %v", err)
	}
	mustServe(t, dir, first)
	was, err := s.Clear()
	if err != nil || !strings.HasPrefix(was, string(first)) {
		t.Errorf("%q, %v", was, err)
	}
	if got := names(t, dir) + "/" + names(t, filepath.Join(dir, "stages")); got != ".lock stages/" {
		t.Errorf("left: %s", got)
	}
	mustServe(t, dir, "")
	t.Run("stages that lead elsewhere", func(t *testing.T) {
		elsewhere := t.TempDir()
		shell(t, elsewhere, "mkdir boot-v1-0123456789ab .tmp-x")
		other := filepath.Join(t.TempDir(), "www")
		shell(t, filepath.Dir(other), "mkdir www && ln -s "+elsewhere+" www/stages")
		_, err := (&netboot.Stager{Dir: other, Open: s.Open}).Clear()
		if got := names(t, elsewhere); err == nil || got != ".tmp-x boot-v1-0123456789ab" {
			t.Errorf("%v, left: %s", err, got)
		}
	})
	t.Run("what is no link", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dir, "current"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"clear": func() error { _, err := s.Clear(); return err }(),
			"check": func() error { _, err := s.CheckServed(t.Context()); return err }(),
			"stage": func() error { _, err := stage(t.Context(), s, releases, first); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "is no link") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// breaking is a source that breaks off within the bundle.
type breaking struct {
	release.Source
	after int64
}

func (b breaking) Open(ctx context.Context, tag release.Tag, name string, limit int64) (io.ReadCloser, error) {
	in, err := b.Source.Open(ctx, tag, name, limit)
	if err != nil || !strings.HasSuffix(name, ".tar.gz") {
		return in, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(in, b.after), iotest.ErrReader(errors.New("connection reset"))), in}, nil
}

// TestFetchBreaksOff: what was fetched is kept, for the next run and nobody else, and
// goes when it is of no use any more.
func TestFetchBreaksOff(t *testing.T) {
	releases, dir := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	publish(t, releases, second, usual(second))
	s := stager(dir)
	broken := func(tag release.Tag) {
		t.Helper()
		_, err := s.Stage(t.Context(), func(ctx context.Context) (*release.Release, error) {
			return release.Open(ctx, breaking{release.NewDirSource(releases), 1 << 20}, tag, believing{}, release.WithClock(clock))
		})
		var interrupted *release.InterruptedError
		if !errors.As(err, &interrupted) || interrupted.Bytes < 1<<20 {
			t.Fatalf("got %v", err)
		}
		info, err := os.Stat(interrupted.Dir)
		if err != nil || info.Mode().Perm() != 0o700 || filepath.Dir(interrupted.Dir) != dir {
			t.Errorf("%s: %v, %v", interrupted.Dir, info, err)
		}
	}
	broken(first)
	mustServe(t, dir, "")
	if staged, err := stage(t.Context(), s, releases, first); err != nil || !staged.Fetched {
		t.Fatalf("%+v, %v", staged, err)
	}
	mustServe(t, dir, first)
	broken(second)
	mustServe(t, dir, first)
	if _, err := stage(t.Context(), s, releases, first); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != ".lock current stages" {
		t.Errorf("left: %s", got)
	}
}
