package running

import (
	"context"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

func (h *host) registered(paths ...closure.StorePath) {
	h.m.Registered = func(context.Context) iter.Seq2[closure.StorePath, error] {
		return func(yield func(closure.StorePath, error) bool) {
			for _, p := range paths {
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

// told returns what a look at the store finds, with what it says of it.
func (h *host) told() []string {
	h.t.Helper()
	i := slices.IndexFunc(parts(), func(p part) bool { return p.name == "store" })
	l, err := h.m.look(h.t.Context(), parts()[i])
	h.must(err)
	var out []string
	for _, f := range l.findings {
		out = append(out, strings.TrimSpace(string(f.Cause)+" "+f.Path+": "+f.Got))
	}
	return out
}

// newPlainHost is newHost on no overlay, of which hard links can't be judged.
func newPlainHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	if h.m.onOverlay() {
		t.Setenv("TMPDIR", "/dev/shm")
		h = newHost(t)
	}
	return h
}

func TestStore(t *testing.T) {
	h := newPlainHost(t)
	all := []closure.StorePath{etcPath, shell, users, top}
	expect := func(want ...string) {
		t.Helper()
		if got := h.told(); !slices.Equal(got, want) {
			t.Errorf("found:\n got  %q\n want %q", got, want)
		}
	}
	h.registered(all...)
	expect()
	list := string(h.m.Store.Dir()) + "/nix-path-registration"
	h.write(list, "of an image", 0o444)
	expect()
	h.must(os.Chmod(h.root+list, 0o555))
	expect("path-unregistered " + list + ": 11 bytes in 1 files")
	h.must(os.Remove(h.root + list))
	h.registered(all[:3]...)
	h.write("/nix/store/loose", "12345", 0o644)
	// Nix at work.
	h.write("/nix/store/.links/x", "shell", 0o444)
	h.write("/nix/store/"+strings.Repeat("g", 32)+"-new/f", "x", 0o444)
	h.write("/nix/store/"+strings.Repeat("g", 32)+"-new.lock", "", 0o600)
	expect("path-unregistered "+string(top)+": 0 bytes in 0 files", "path-unregistered /nix/store/loose: 5 bytes in 1 files")
}

func TestLinkedOutside(t *testing.T) {
	h := newPlainHost(t)
	h.registered(etcPath, shell, users, top)
	link := func(from, to string) { h.must(os.Link(h.root+from, h.root+to)) }
	sh := string(shell) + "/bin/sh"
	h.write("/nix/store/.links/x", "", 0o444)
	// As Nix makes of two files with the same contents.
	link(sh, "/nix/store/.links/sh")
	link(sh, string(shell)+"/bin/bash")
	if got := h.told(); len(got) > 0 {
		t.Errorf("links within the store: %q", got)
	}
	link(string(users), "/root-users")
	if got, want := h.told(), []string{"linked-outside " + string(users) + ": 2 links"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
