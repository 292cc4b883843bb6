package endtoend

import (
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestFresh: with --fresh, hack/build-release gives a build of its own or none. What
// something else built on the same store is a copy, whether it did so before or
// meanwhile.
func TestFresh(t *testing.T) {
	t.Parallel()
	m := startBuilder(t, "/srv/source")
	args := []string{"--fresh", "--system", "", "--netboot", "testhost", "--iso", ""}
	empty := func(dir string) {
		t.Helper()
		if out := m.Run("ls", "-A", dir); out != "" {
			t.Errorf("a run that failed has left %s", out)
		}
	}
	remove := regexp.MustCompile(`nix-store --delete .*\)\n`)
	again := func(stderr string) {
		t.Helper()
		command := remove.FindString(stderr)
		if command == "" {
			t.Fatalf("it does not say what to do: %s", stderr)
		}
		m.Run("sh", "-euc", command)
	}

	// Something that does not know of the lock is a little quicker.
	m.Run("sh", "-euc", `mkdir /opt/wrapped; real=$(command -v nix-store); cat >/opt/wrapped/nix-store <<END
#!/bin/sh
case "\$*" in *--dry-run*) ;; --realise*) $real "\$@" >/dev/null 2>&1 ;; esac
exec $real "\$@"
END
chmod 755 /opt/wrapped/nix-store`)
	m.Run("sh", "-euc", "mv "+scripts+"/build-release "+scripts+"/true; printf '#!/bin/sh\nPATH=/opt/wrapped:$PATH exec "+scripts+"/true \"$@\"\n' >"+scripts+"/build-release; chmod 755 "+scripts+"/build-release")
	stderr, code := m.buildRelease("/root/a", args...)
	if code != 1 || !strings.Contains(stderr, "this run did not build ") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	empty("/root/a")
	m.Run("sh", "-euc", "mv "+scripts+"/true "+scripts+"/build-release")

	// It is there now, image and system, and each of them counts by itself.
	if stderr, code = m.buildRelease("/root/a", args...); code != 1 || !strings.Contains(stderr, "built on this machine before") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	m.Run("sh", "-euc", "nix-store --delete /nix/store/*-netboot")
	if stderr, code = m.buildRelease("/root/a", args...); code != 1 || !strings.Contains(stderr, "-nixos-system-") {
		t.Fatalf("without the image: exit %d: %s", code, stderr)
	}
	empty("/root/a")
	again(stderr)

	// Two at the same time: one of them builds.
	var wg sync.WaitGroup
	var codes [2]int
	var said [2]string
	for i, out := range []string{"/root/a", "/root/b"} {
		wg.Go(func() { said[i], codes[i] = m.buildRelease(out, args...) })
	}
	wg.Wait()
	refused := 0
	if codes[0] == 0 {
		refused = 1
	}
	if codes[1-refused] != 0 || codes[refused] != 1 || !strings.Contains(said[refused], "built on this machine before") {
		t.Errorf("exits %v: %s\n%s", codes, said[0], said[1])
	}
}
