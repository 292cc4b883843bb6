package rebuild

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// makeKeys makes a key that the machine's nix trusts and one that it does not.
func (m *machine) makeKeys() {
	m.t.Helper()
	m.Run("sh", "-euc", `
		for name in good bad; do nix --extra-experimental-features nix-command key generate-secret --key-name $name >/root/$name.key; done
		echo "trusted-public-keys = $(nix --extra-experimental-features nix-command key convert-secret-to-public </root/good.key)" >>/etc/nix/nix.conf
		systemctl restart nix-daemon.service`)
}

// cache has nix copy what the machine has of paths into a cache of that name,
// signed with a key, or with none. It returns the substituter.
func (m *machine) cache(name, key string, paths ...string) string {
	m.t.Helper()
	to := "file:///srv/" + name + "?compression=none"
	if key != "" {
		to += "&secret-key=/root/" + key + ".key"
	}
	m.Run(append([]string{"nix", "--extra-experimental-features", "nix-command", "copy", "--no-check-sigs", "--to", to}, paths...)...)
	return "file:///srv/" + name
}

// rot changes a byte of the contents of path in a cache.
func (m *machine) rot(name, path string) {
	m.t.Helper()
	base := path[len("/nix/store/"):]
	nar := m.Run("sh", "-euc", `sed -n 's/^URL: //p' "/srv/$1/$2.narinfo"`, "sh", name, base[:32])
	text := m.Run("sh", "-euc", `grep -abo seed "/srv/$1/$2" | tail -1 | cut -d: -f1`, "sh", name, nar)
	var offset int64
	if _, err := fmt.Sscan(text, &offset); err != nil {
		m.t.Fatalf("no seed in %s: %v", nar, err)
	}
	m.FlipByte("/srv/"+name+"/"+nar, offset)
}

// What the machine lacks is fetched into the scratch store, and nowhere else.
func TestFetch(t *testing.T) {
	t.Parallel()
	m := startMachine(t, "cases")
	m.makeKeys()
	seed := m.Run("sh", "-c", "echo /nix/store/*-seed")
	part, fixed := string(m.path("part-03")), string(m.path("fixed"))
	good := m.cache("good", "good", seed, part, fixed)
	bad := m.cache("bad", "bad", seed)
	unsigned := m.cache("unsigned", "", seed)
	rotten := m.cache("rotten", "good", seed)
	m.rot("rotten", seed)
	// A cache whose signer signed other bytes of a path of the release.
	m.FlipByte(part+"/03", 3)
	claimed := m.SQL("select hash from ValidPaths where path='" + part + "'")
	m.SQL("update ValidPaths set hash='sha256:" + strings.TrimSpace(m.Run("sh", "-c", `nix-store --dump "$1" | sha256sum | cut -d" " -f1`, "sh", part)) + "' where path='" + part + "'")
	other := m.cache("other", "good", part)
	m.SQL("update ValidPaths set hash='" + strings.TrimSpace(claimed) + "' where path='" + part + "'")
	m.FlipByte(part+"/03", 3)
	m.Run("nix-store", "--delete", seed)

	r := m.request()
	r.Limits.Build = time.Minute
	r.Policy = Policy{Choice: FirstParty, FirstParty: []Pattern{"part-04", "grown", "fixed"}}
	fetch := func(t *testing.T, from ...string) driverAnswer {
		t.Helper()
		r.Substitution = Substitution{Wanted: true, From: from}
		var a driverAnswer
		m.leavesNothing(func() { a = m.rebuild(r) })
		return a
	}
	refused := func(t *testing.T, a driverAnswer, words string) {
		t.Helper()
		a.expect(t, "grown input-missing seed by ")
		if len(a.Fetched) > 0 {
			t.Errorf("fetched %q", a.Fetched)
		}
		for _, result := range a.Results {
			if result.Name == "grown" && !strings.Contains(result.Detail, words) {
				t.Errorf("the detail is %q, want something of %q", result.Detail, words)
			}
		}
	}
	t.Run("not wanted", func(t *testing.T) {
		a := m.rebuild(r)
		a.expect(t, "grown input-missing seed by ")
	})
	t.Run("from a list", func(t *testing.T) {
		a := fetch(t, bad, good)
		a.expect(t)
		if !slices.Equal(a.Fetched, []string{"seed"}) || a.Signed != 1 {
			t.Errorf("fetched %q, %d of them known by a signature alone", a.Fetched, a.Signed)
		}
	})
	t.Run("nothing that is here", func(t *testing.T) {
		r := r
		r.Policy.FirstParty = []Pattern{"part-04"}
		r.Substitution = Substitution{Wanted: true, From: []string{good}}
		a := m.rebuild(r)
		a.expect(t)
		if len(a.Fetched) > 0 {
			t.Errorf("fetched %q", a.Fetched)
		}
	})
	t.Run("signed by nobody", func(t *testing.T) { refused(t, fetch(t, unsigned), "sign") })
	t.Run("signed by somebody else", func(t *testing.T) { refused(t, fetch(t, bad), "sign") })
	t.Run("not what was signed", func(t *testing.T) { refused(t, fetch(t, rotten), "hash mismatch") })
	t.Run("a cache that is not there", func(t *testing.T) { refused(t, fetch(t, "file:///srv/absent"), "fetch") })
	configured := func(substituter string) {
		m.Run("sh", "-euc", `sed -i "/^substituters/d" /etc/nix/nix.conf; echo "substituters = $1" >>/etc/nix/nix.conf`, "sh", substituter)
	}
	t.Run("from what nix is configured with", func(t *testing.T) {
		configured(good)
		a := fetch(t)
		a.expect(t)
		if !slices.Equal(a.Fetched, []string{"seed"}) {
			t.Errorf("fetched %q", a.Fetched)
		}
	})
	t.Run("one that nix is told to trust", func(t *testing.T) {
		configured(unsigned + "?trusted=1")
		refused(t, fetch(t), "untrusted")
	})
	t.Run("a path of the release", func(t *testing.T) {
		m.Run("mv", part, "/root/part")
		defer m.Run("mv", "/root/part", part)
		a := fetch(t, good)
		a.expect(t)
		if !slices.Equal(a.Fetched, []string{"part-03", "seed"}) && !slices.Equal(a.Fetched, []string{"seed", "part-03"}) || a.Signed != 1 {
			t.Errorf("fetched %q, %d of them known by a signature alone", a.Fetched, a.Signed)
		}
		a = fetch(t, other)
		a.expect(t, "grown input-missing seed by ", "part-04 input-missing part-03 by manifest")
		for _, result := range a.Results {
			if result.Name == "part-04" && !strings.Contains(result.Detail, "the fetched path differs") {
				t.Errorf("the detail is %q", result.Detail)
			}
		}
	})
	t.Run("never what is compared", func(t *testing.T) {
		m.Run("mv", fixed, "/root/fixed")
		defer m.Run("mv", "/root/fixed", fixed)
		a := fetch(t, good)
		a.expect(t, "fixed input-missing fixed by manifest")
	})
}
