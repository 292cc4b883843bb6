package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/comintest"
)

// A comin that waits on a machine whose configuration accepts two releases.
type cominHost struct {
	*gated
	server *comintest.Server
	count  int
}

func startComin(t *testing.T) *cominHost {
	t.Helper()
	h := &cominHost{gated: startGated(t), server: &comintest.Server{}}
	// As the module has it: the way to the socket is closed to others.
	h.Run("sh", "-euc", "mkdir -p -m 700 /var/lib/private; mkdir -p /var/lib/private/comin; ln -s private/comin /var/lib/comin")
	// The name of a socket has at most 108 bytes.
	short := filepath.Join(t.TempDir(), "s")
	if err := os.Symlink(h.Path("/var/lib/private/comin"), short); err != nil {
		t.Fatal(err)
	}
	h.server.Start(t, filepath.Join(short, "grpc.sock"))
	return h
}

// submit has comin wait with a generation of that out path, and returns its ID.
func (h *cominHost) submit(path string) string {
	h.count++
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", h.count)
	h.server.Submit(comintest.Generation{ID: id, OutPath: path})
	return id
}

// confirmation is the JSON of ec-verify gate comin.
type confirmation struct {
	Kind, Verdict, Generation, OutPath, Detail string
	Confirmed                                  bool
	Report                                     *answer
	code                                       int
	stderr                                     string
}

func (h *cominHost) confirm(args ...string) confirmation {
	h.t.Helper()
	stdout, stderr, code := h.Exec(h.t.Context(), append([]string{program, "gate", "comin", "--now", "--output", "json"}, args...)...)
	c := confirmation{code: code, stderr: stderr}
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || c.Kind != "ec-verify-gate-comin" {
		h.t.Fatalf("exit %d, no JSON: %v\n%s\n%s", code, err, stdout, stderr)
	}
	return c
}

func TestGateComin(t *testing.T) {
	t.Parallel()
	h := startComin(t)
	if c := h.confirm(); c.code != 0 || c.Confirmed || c.Report != nil || c.stderr != "" {
		t.Errorf("nothing waits: %+v", c)
	}
	file := h.Run("sh", "-euc", "nix-store -qR "+h.next+" | grep -e -program-04-1.3$") + "/bin/program-04"
	asked := func(n int, do func()) func() {
		start := h.server.Asked()
		return func() {
			if h.server.Asked() == start+n-1 {
				do()
			}
		}
	}
	for _, test := range []struct {
		name, path string
		before     func() (undo func())
		code       int
		says       string
		cause      string
	}{
		{name: "a byte", path: h.next, before: func() func() {
			h.FlipByte(file, 3)
			return func() { h.FlipByte(file, 3) }
		}, code: 1, says: "continues to wait", cause: "disk-altered"},
		{name: "a system of no release", path: h.Runner().Source, code: 1, says: "continues to wait", cause: "other-system"},
		{name: "a path that is not there", path: "/nix/store/" + strings.Repeat("a", 32) + "-nixos-system", code: 1, says: "continues to wait", cause: "other-system"},
		{name: "a link to a good one", path: "/run/current-system", code: 4, says: "is no store path"},
		{name: "a good one, written otherwise", path: h.next + "/", code: 4, says: "is no store path"},
		{name: "a tag", path: otherTag, code: 4, says: "is no store path"},
		{name: "the way out of the store", path: "/nix/store/../../etc", code: 4, says: "is no store path"},
		{name: "an option", path: "--help", code: 4, says: "is no store path"},
		{name: "another one waits meanwhile", path: h.next, before: func() func() {
			h.server.OnState(asked(2, func() { h.submit(h.next) }))
			return func() { h.server.OnState(nil) }
		}, code: 4, says: "no more"},
		{name: "the same ID leads elsewhere meanwhile", path: h.next, before: func() func() {
			h.server.OnState(asked(2, func() {
				h.server.Submit(comintest.Generation{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", h.count), OutPath: h.old})
			}))
			return func() { h.server.OnState(nil) }
		}, code: 4, says: "two out paths"},
		{name: "it is touched meanwhile", path: h.next, before: func() func() {
			h.server.OnState(asked(2, func() { h.FlipByte(file, 3) }))
			return func() {
				h.server.OnState(nil)
				h.FlipByte(file, 3)
			}
		}, code: 1, says: "continues to wait", cause: "disk-altered"},
		{name: "comin waits for nobody", path: h.next, before: func() func() {
			h.server.SetMode(comintest.Auto)
			return func() { h.server.SetMode(comintest.Manual) }
		}, code: 4, says: "deployConfirmer.mode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.submit(test.path)
			if test.before != nil {
				defer test.before()()
			}
			c := h.confirm()
			if c.code != test.code || c.Confirmed || !strings.Contains(c.Detail, test.says) {
				t.Errorf("%+v", c)
			}
			if test.cause != "" && (c.Report == nil || !strings.Contains(fmt.Sprint(c.Report.Findings), test.cause)) {
				t.Errorf("no %s: %+v", test.cause, c.Report)
			}
			if deployed := h.server.Deployed(); len(deployed) != 0 {
				t.Errorf("%q deployed", deployed)
			}
		})
	}
	t.Run("others reach the socket", func(t *testing.T) {
		h.Run("chmod", "755", "/var/lib/private")
		defer h.Run("chmod", "700", "/var/lib/private")
		h.submit(h.old + "x")
		if c := h.confirm(); !strings.Contains(c.stderr, "every user of this machine reaches") {
			t.Errorf("%+v", c)
		}
	})
	id := h.submit(h.next)
	if c := h.confirm(); c.code != 0 || !c.Confirmed || c.Verdict != "verified" || c.Generation != id || c.OutPath != h.next {
		t.Errorf("%+v", c)
	}
	if deployed := h.server.Deployed(); len(deployed) != 1 || deployed[0] != h.next {
		t.Errorf("%q deployed", deployed)
	}
	t.Run("the unit", func(t *testing.T) {
		h.Push(filepath.Join(installed(t), "usr/local"), "/usr/local")
		const unit = "ec-verify-gate-comin"
		h.Run("systemctl", "daemon-reload")
		h.Run("systemctl", "start", unit)
		show := func(of, property string) string { return h.Run("systemctl", "show", of, "-P", property) }
		until := func(what string, is func() bool) {
			t.Helper()
			for deadline := time.Now().Add(runTimeout); !is(); time.Sleep(200 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: never\n%s", what, h.Run("journalctl", "-u", unit, "-o", "cat", "--no-pager"))
				}
			}
		}
		h.submit(h.next)
		until("the second is deployed", func() bool { return len(h.server.Deployed()) == 2 })
		if got := show(unit, "ActiveState"); got != "active" {
			t.Errorf("it is %s", got)
		}
		if log := h.log("ec-verify-fetch", "-u", unit); !strings.Contains(log, "ec-verify-fetch.service: Deactivated") {
			t.Errorf("nothing was fetched before the judgement:\n%s", log)
		}
		h.FlipByte(file, 3)
		defer h.FlipByte(file, 3)
		id := h.submit(h.next)
		until("a failure", func() bool { return show(unit, "Result") == "exit-code" })
		log := h.log(unit)
		if show(unit, "ExecMainStatus") != "1" || !strings.Contains(log, "generation "+id+", "+h.next+": not confirmed: comin continues to wait") || !strings.Contains(log, "disk-altered") {
			t.Errorf("exit %s\n%s", show(unit, "ExecMainStatus"), log)
		}
		if got := show(unit, "SubState"); got != "auto-restart" {
			t.Errorf("it is %s, and is to try again", got)
		}
		h.Run("systemctl", "stop", unit)
		if deployed := h.server.Deployed(); len(deployed) != 2 {
			t.Errorf("%q deployed", deployed)
		}
	})
}
