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
	h.m.Registered = func(context.Context, bool) iter.Seq2[closure.StorePath, error] {
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
	expect("path-unregistered " + list + ": 11 bytes in 1 file")
	h.must(os.Remove(h.root + list))
	h.registered(all[:3]...)
	h.write("/nix/store/loose", "12345", 0o644)
	// Nix at work.
	h.write("/nix/store/.links/x", "shell", 0o444)
	h.write("/nix/store/"+strings.Repeat("g", 32)+"-new/f", "x", 0o444)
	h.write("/nix/store/"+strings.Repeat("g", 32)+"-new.lock", "", 0o600)
	expect("path-unregistered "+string(top)+": 0 bytes in 0 files", "path-unregistered /nix/store/loose: 5 bytes in 1 file")
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

// TestLinkedAsRead: what the run has read of a path is taken from there by the first look,
// and what only seems to be a link from outside is gone at the second one.
func TestLinkedAsRead(t *testing.T) {
	h := newPlainHost(t)
	h.registered(etcPath, shell, users, top)
	sh := string(shell) + "/bin/sh"
	read := func() {
		st, err := h.m.Store.Stat(sh)
		h.must(err)
		h.m.Linked = map[closure.StorePath][]Link{shell: nil}
		if st.Nlink > 1 {
			h.m.Linked[shell] = []Link{{st.Dev, st.Ino, uint32(st.Nlink)}}
		}
	}
	h.must(os.Link(h.root+sh, h.root+"/outside"))
	read()
	if got, want := h.told(), []string{"linked-outside " + sh + ": 2 links"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if h.m.Linked != nil {
		t.Error("the second look takes them from there too")
	}
	h.must(os.Remove(h.root + "/outside"))
	read()
	// As by Nix, after the path was read.
	h.write("/nix/store/.links/x", "", 0o444)
	h.must(os.Link(h.root+sh, h.root+"/nix/store/.links/sh"))
	h.told()
	if got := h.told(); len(got) > 0 {
		t.Errorf("at the second look: %q", got)
	}
}

// TestRegisteredSince: a path that was registered after the run began is no stray.
func TestRegisteredSince(t *testing.T) {
	h := newPlainHost(t)
	asked := 0
	h.m.Registered = func(_ context.Context, now bool) iter.Seq2[closure.StorePath, error] {
		asked++
		return func(yield func(closure.StorePath, error) bool) {
			for _, p := range []closure.StorePath{etcPath, shell, users, top} {
				if p != shell || now {
					yield(p, nil)
				}
			}
		}
	}
	if got := h.told(); len(got) > 0 || asked != 2 {
		t.Errorf("found %q, asked %d times", got, asked)
	}
}
