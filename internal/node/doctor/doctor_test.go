package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
)

// A pair made for these tests.
var testKey, testPrivateKey = func() (public, private string) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	pubDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	inPEM := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return inPEM("PUBLIC KEY", pubDER), inPEM("PRIVATE KEY", keyDER)
}()

// setUp is a machine on which a run gives a good verdict, until something is
// broken in it.
type setUp struct {
	t       *testing.T
	dir     string
	json    map[string]map[string]any // the configuration by sections
	top     map[string]any
	units   []systemd.Unit
	timer   systemd.Timer
	rebuild systemd.Timer
	valid   Valid
	noSD    error
	source  error
	release error
	nix     error
	db      error
	lastRun time.Time
	now     time.Time
	fetched time.Time
	loose   bool // the clock follows nobody
	gate    systemd.Unit
	closed  bool // the gate
	noGate  error
}

func (s *setUp) at(name string) string { return filepath.Join(s.dir, name) }

func (s *setUp) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.at(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.at(name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(s.at(name), mode); err != nil {
		s.t.Fatal(err)
	}
}

// link makes a link at name to target.
func (s *setUp) link(target, name string) {
	s.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(s.at(name)), 0o755), os.Symlink(s.at(target), s.at(name))); err != nil {
		s.t.Fatal(err)
	}
}

func newSetUp(t *testing.T) *setUp {
	s := &setUp{t: t, dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	for _, dir := range []string{"state", "metrics", "releases", "flake"} {
		if err := os.MkdirAll(s.at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.write("key.pub", testKey, 0o644)
	s.write("report.key", testPrivateKey, 0o600)
	s.write("token", "secret", 0o600)
	for _, program := range append(config.NixPrograms, "ec-verify") {
		s.write("bin/"+program, "#!/bin/sh\n", 0o755)
	}
	s.top = map[string]any{"stateDir": s.at("state"), "flake": s.at("flake")}
	s.json = map[string]map[string]any{
		"release": {"source": []string{s.at("releases"), "https://forge.example/o/r/releases/download"}, "accept": []string{"boot-v1"}, "tokenFile": s.at("token")},
		"trust":   {"keys": []map[string]any{{"name": "ci", "file": s.at("key.pub")}}},
		"metrics": {"file": s.at("metrics/ec-verify.prom")},
		"report":  {"keyFile": s.at("report.key")},
		"nix":     {"binDir": s.at("bin")},
	}
	sandbox := systemd.Sandbox{ProtectHome: "yes", ProtectSystem: "strict", ReadWrite: []string{s.at("state"), s.at("metrics")}}
	for _, name := range []string{VerifyUnit, FetchUnit, RebuildUnit} {
		s.units = append(s.units, systemd.Unit{Name: name, Enabled: "static", Program: []string{s.at("bin/ec-verify")}, Sandbox: sandbox})
	}
	s.units = append(s.units, systemd.Unit{Name: VerifyTimer, Enabled: "enabled"})
	s.timer = systemd.Timer{State: systemd.TimerWaiting, Next: s.now.Add(time.Hour)}
	s.rebuild = s.timer
	s.valid = Valid{Signer: `key "ci"`, BestBefore: s.now.AddDate(0, 2, 0), RefusedAfter: s.now.AddDate(0, 3, 0)}
	s.lastRun, s.fetched = s.now.Add(-time.Hour), s.now.Add(-2*time.Hour)
	return s
}

// install installs the units, or removes all of them.
func (s *setUp) install(remove bool) {
	for i := range s.units {
		s.units[i].Absent = remove
	}
	if s.timer.State = systemd.TimerWaiting; remove {
		s.timer.State = systemd.TimerAbsent
	}
	// As they are shipped, they may write to the state directory; here it is elsewhere.
	if s.top["stateDir"] = s.at("state"); remove {
		s.top["stateDir"] = "/var/lib/ec-verify"
		delete(s.json, "metrics")
		delete(s.json, "report")
	}
}

func (s *setUp) examine() []Result {
	s.t.Helper()
	all := make(map[string]any)
	for key, value := range s.top {
		all[key] = value
	}
	for key, value := range s.json {
		all[key] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		s.t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(s.at("config.json")); err == nil {
		mode = info.Mode().Perm()
	}
	s.write("config.json", string(text), mode)
	m := Machine{
		File: s.at("config.json"), Now: s.now, Config: config.Default(),
		Units: func(_ context.Context, names ...string) ([]systemd.Unit, error) {
			if slices.Equal(names, []string{GateUnit}) {
				return []systemd.Unit{s.gate}, s.noSD
			}
			return s.units, s.noSD
		},
		GateClosed: func() (bool, error) { return s.closed, s.noGate },
		Timers: func(_ context.Context, names ...string) ([]systemd.Timer, error) {
			return []systemd.Timer{s.timer, s.rebuild}[:len(names)], s.noSD
		},
		Source:       func(context.Context, string) error { return s.source },
		Release:      func(context.Context, string) (Valid, error) { return s.valid, s.release },
		Fetched:      func() time.Time { return s.fetched },
		Nix:          func(context.Context) (string, error) { return "Nix 2.26.3", s.nix },
		Database:     func(context.Context) error { return s.db },
		LastRun:      func(context.Context) (time.Time, error) { return s.lastRun, nil },
		Synchronised: func() (bool, error) { return !s.loose, nil },
	}
	l, err := config.Read(m.File)
	var mistakes *config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		m.Mistakes = mistakes.All
	case err != nil:
		s.t.Fatal(err)
	default:
		m.Config = l.Config
	}
	return Examine(context.Background(), m)
}

// brokenSetUps are machines without a good verdict. What is found is named by
// check and found; remedy is in its remedy, which repair applies. Where repair is nil
// the remedy is a command, and is run.
var brokenSetUps = []struct {
	name, check, found, remedy string
	state                      State
	broken, repair             func(s *setUp)
}{
	{"no policy", "policy", "no release is accepted", "release", Problem,
		func(s *setUp) { delete(s.json["release"], "accept") }, func(s *setUp) { s.json["release"]["accept"] = []string{"TAG"} }},
	{"no source", "policy", "no source of releases", "/srv/releases", Problem,
		func(s *setUp) { delete(s.json["release"], "source") }, func(s *setUp) { s.json["release"]["source"] = []string{s.at("releases")} }},
	{"nobody trusted", "keys", "no key and no identity", "trust", Problem,
		func(s *setUp) { delete(s.json, "trust") }, func(s *setUp) {
			s.json["trust"] = map[string]any{"keys": []map[string]any{{"name": "ci", "file": s.at("key.pub")}}}
		}},
	{"mistyped key", "configuration", `unknown key "release.sources"`, "correct the file", Problem,
		func(s *setUp) { s.json["release"]["sources"] = []string{} }, func(s *setUp) { delete(s.json["release"], "sources") }},
	{"value of another type", "configuration", "workers: want a whole number", "correct the file", Problem,
		func(s *setUp) { s.top["workers"] = "2" }, func(s *setUp) { s.top["workers"] = 2 }},
	{"others write the configuration", "configuration", "others can write to", "chmod go-w", Problem,
		func(s *setUp) { s.write("config.json", "{}", 0o666) }, nil},
	{"others write a drop-in", "configuration", "config.d/a.json", "chmod go-w", Problem,
		func(s *setUp) { s.write("config.d/a.json", "{}", 0o666) }, nil},
	// What it leads to is somebody's with good reason, and is not to be taken from them.
	{"a drop-in is a link to what others write", "configuration", "config.d/a.json leads to ", "cp --remove-destination ", Problem,
		func(s *setUp) {
			s.write("home/a.json", "{}", 0o666)
			s.link("home/a.json", "config.d/a.json")
		}, nil},
	{"a drop-in is a link into a directory that others write", "configuration", "config.d/a.json leads to ", "cp --remove-destination ", Problem,
		func(s *setUp) {
			s.write("home/a.json", "{}", 0o644)
			s.link("home/a.json", "config.d/a.json")
			if err := os.Chmod(s.at("home"), 0o777); err != nil { //nolint:gosec // as somebody may have it
				s.t.Fatal(err)
			}
		}, nil},
	{"key file missing", "keys", "there is no", "copy the publisher's public key to", Problem,
		func(s *setUp) { os.Remove(s.at("key.pub")) }, func(s *setUp) { s.write("key.pub", testKey, 0o644) }},
	{"key file with another thing", "keys", "no public key in PEM", "in PEM", Problem,
		func(s *setUp) { s.write("key.pub", "ssh-ed25519 AAAA", 0o644) }, func(s *setUp) { s.write("key.pub", testKey, 0o644) }},
	{"key hidden from the unit", "keys", "does not see", "move it", Problem,
		func(s *setUp) { s.units[0].Sandbox.Inaccessible = []string{s.at("key.pub")} }, func(s *setUp) {
			s.write("etc/key.pub", testKey, 0o644)
			s.json["trust"]["keys"] = []map[string]any{{"name": "ci", "file": s.at("etc/key.pub")}}
		}},
	{"key is no longer valid", "keys", "0 of the 1 signers", "current key", Problem,
		func(s *setUp) {
			s.json["trust"]["keys"] = []map[string]any{{"name": "ci", "file": s.at("key.pub"), "notAfter": "2026-02-01T00:00:00Z"}}
		}, func(s *setUp) {
			s.json["trust"]["keys"] = []map[string]any{{"name": "new", "file": s.at("key.pub")}}
		}},
	{"key ends soon", "keys", "is valid until 2026-03-05", "add the key that follows it", Notice,
		func(s *setUp) {
			s.json["trust"]["keys"] = []map[string]any{{"name": "ci", "file": s.at("key.pub"), "notAfter": "2026-03-05T00:00:00Z"}}
		}, func(s *setUp) {
			s.json["trust"]["keys"] = []map[string]any{{"name": "ci", "file": s.at("key.pub")}}
		}},
	{"source directory missing", "sources", "there is no directory", "mkdir -p", Problem,
		func(s *setUp) { os.Remove(s.at("releases")) }, func(s *setUp) {
			if err := os.Mkdir(s.at("releases"), 0o755); err != nil {
				s.t.Fatal(err)
			}
		}},
	{"source in a home directory", "sources", "does not see", "/srv", Problem,
		func(s *setUp) {
			s.json["release"]["source"] = []string{s.at("home")}
			if err := os.Symlink("/root", s.at("home")); err != nil {
				s.t.Fatal(err)
			}
		}, func(s *setUp) { s.json["release"]["source"] = []string{s.at("releases")} }},
	{"token missing", "sources", "there is no", "readable for root alone", Problem,
		func(s *setUp) { os.Remove(s.at("token")) }, func(s *setUp) { s.write("token", "secret", 0o600) }},
	{"token readable by others", "sources", "others can read", "chmod 600", Problem,
		func(s *setUp) { s.write("token", "secret", 0o644) }, nil},
	{"report key readable by others", "report key", "others can read", "chmod 600", Problem,
		func(s *setUp) { s.write("report.key", testPrivateKey, 0o640) }, nil},
	{"report key is none", "report key", "report.key", "in PEM", Problem,
		func(s *setUp) { s.write("report.key", "x", 0o600) }, func(s *setUp) { s.write("report.key", testPrivateKey, 0o600) }},
	{"state directory that the unit can't write to", "state", "may not write to", "ReadWritePaths=", Problem,
		func(s *setUp) { s.units[0].Sandbox.ReadWrite = []string{s.at("metrics")} }, func(s *setUp) {
			s.units[0].Sandbox.ReadWrite = append(s.units[0].Sandbox.ReadWrite, s.at("state"))
		}},
	{"state directory that the fetch can't write to", "state", "ec-verify-fetch.service may not write to", "ReadWritePaths=", Problem,
		func(s *setUp) { s.units[1].Sandbox.ReadWrite = []string{s.at("metrics")} }, func(s *setUp) {
			s.units[1].Sandbox.ReadWrite = append(s.units[1].Sandbox.ReadWrite, s.at("state"))
		}},
	{"state directory that rebuilds can't write to", "state", "ec-verify-rebuild.service may not write to", "ReadWritePaths=", Problem,
		func(s *setUp) {
			s.json["rebuild"] = map[string]any{"choice": "config"}
			s.units[2].Sandbox.ReadWrite = []string{s.at("metrics")}
		}, func(s *setUp) {
			s.units[2].Sandbox.ReadWrite = append(s.units[2].Sandbox.ReadWrite, s.at("state"))
		}},
	{"state directory missing", "state", "the units do not make it", "mkdir -p", Problem,
		func(s *setUp) { os.Remove(s.at("state")) }, nil},
	{"others write the state directory", "state", "others can write to", "chmod go-w", Problem,
		func(s *setUp) {
			if err := os.Chmod(s.at("state"), 0o777); err != nil { //nolint:gosec // what is tested
				s.t.Fatal(err)
			}
		}, nil},
	{"metrics directory missing", "metrics", "there is no directory", "mkdir -p", Problem,
		func(s *setUp) { os.Remove(s.at("metrics")) }, nil},
	{"nix programs missing", "nix", "there is no program", "nix.binDir", Problem,
		func(s *setUp) { os.Remove(s.at("bin/nix-store")) }, func(s *setUp) { delete(s.json, "nix") }},
	{"a unit without the rights for a part", "machine", "ec-verify.service can't check etc, code: it lacks CapabilityBoundingSet=CAP_SYS_PTRACE, CapabilityBoundingSet=CAP_CHECKPOINT_RESTORE",
		"{ echo '[Service]'; echo CapabilityBoundingSet=CAP_SYS_PTRACE; echo CapabilityBoundingSet=CAP_CHECKPOINT_RESTORE; } | systemctl edit --stdin --drop-in=machine ec-verify.service", Problem,
		func(s *setUp) { s.top["machine"] = map[string]any{"parts": []string{"etc", "code"}} }, func(s *setUp) {
			s.units[0].Sandbox.Capabilities = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_CHECKPOINT_RESTORE
		}},
	{"a unit without the rights for one of its parts", "machine", "ec-verify.service can't check firewall: it lacks PrivateNetwork=no, RestrictAddressFamilies=AF_NETLINK", "echo PrivateNetwork=no; echo RestrictAddressFamilies=AF_NETLINK", Problem,
		func(s *setUp) {
			s.top["machine"] = map[string]any{"parts": []string{"mounts", "firewall"}}
			box := &s.units[0].Sandbox
			box.Capabilities, box.PrivateNetwork = 1<<unix.CAP_SYS_PTRACE|1<<unix.CAP_NET_ADMIN, true
			box.Families = systemd.Families{Only: true, Names: []string{"AF_UNIX"}}
		}, func(s *setUp) {
			s.units[0].Sandbox.PrivateNetwork = false
			s.units[0].Sandbox.Families.Names = []string{"AF_UNIX", "AF_NETLINK"}
		}},
	{"a rebuild without the rights for a part", "machine", "ec-verify-rebuild.service can't check units: it lacks CapabilityBoundingSet=CAP_SYS_PTRACE", "machine ec-verify-rebuild.service", Problem,
		func(s *setUp) {
			s.json["rebuild"] = map[string]any{"choice": "config"}
			s.top["machine"] = map[string]any{"parts": []string{"units"}}
			s.units[0].Sandbox.Capabilities = 1 << unix.CAP_SYS_PTRACE
		}, func(s *setUp) { s.units[2].Sandbox.Capabilities = 1 << unix.CAP_SYS_PTRACE }},
	{"nix too old", "nix", "too old", "install Nix", Problem,
		func(s *setUp) { s.nix = errors.New("Nix 2.3.0 is too old") }, func(s *setUp) { s.nix = nil }},
	{"source does not answer", "sources", "does not answer: timeout", "network", Problem,
		func(s *setUp) { s.source = errors.New("timeout") }, func(s *setUp) { s.source = nil }},
	{"nothing fetched", "fetch", "nothing was fetched", "systemctl start ec-verify-fetch.service", Notice,
		func(s *setUp) { s.fetched = time.Time{} }, func(s *setUp) { s.fetched = s.now }},
	{"fetch is old", "fetch", "the last fetch from all sources was on 2026-02-", "journalctl", Notice,
		func(s *setUp) { s.fetched = s.now.AddDate(0, 0, -7) }, func(s *setUp) { s.fetched = s.now }},
	{"release untrusted", "releases", "boot-v1: ", "accept a release that is valid", Problem,
		func(s *setUp) { s.release = release.Untrusted(release.ReasonUnsigned, "no signature") }, func(s *setUp) { s.release = nil }},
	{"release revoked", "releases", "boot-v1: ", "switch to that: ec-verify switch TAG", Problem,
		func(s *setUp) { s.release = release.Untrusted(release.ReasonRevoked, "revoked") }, func(s *setUp) { s.release = nil }},
	{"release missing", "releases", "boot-v1: ", "ec-verify release list", Problem,
		func(s *setUp) { s.release = errors.New("not found") }, func(s *setUp) { s.release = nil }},
	{"release ends soon", "releases", "boot-v1 is best before 2026-03-10T12:00:00Z, and refused after", "a newer release", Notice,
		func(s *setUp) { s.valid.BestBefore = s.now.AddDate(0, 0, 9) }, func(s *setUp) { s.valid.BestBefore = s.now.AddDate(0, 0, 90) }},
	{"release in its grace", "releases", "boot-v1 is past its best-before date, 2026-02-28T12:00:00Z, and refused after 2026-06-01", "a newer release", Notice,
		func(s *setUp) { s.valid.BestBefore = s.now.AddDate(0, 0, -1) }, func(s *setUp) { s.valid.BestBefore = s.now.AddDate(0, 0, 90) }},
	{"release of a key that ends soon", "releases", `boot-v1 is signed by key "ci", which is not valid after 2026-03-05`, "valid for longer", Notice,
		func(s *setUp) { s.valid.KeyNotAfter = s.now.AddDate(0, 0, 4) }, func(s *setUp) { s.valid.KeyNotAfter = s.now.AddDate(0, 0, 90) }},
	{"no flake", "flake", "there is no flake", "link the flake", Problem,
		func(s *setUp) { s.top["flake"] = s.at("nowhere") }, func(s *setUp) { s.top["flake"] = s.at("flake") }},
	{"database unreadable", "database", "permission denied", "as root", Problem,
		func(s *setUp) { s.db = fs.ErrPermission }, func(s *setUp) { s.db = nil }},
	{"clock is behind", "clock", "the clock says", "timedatectl", Problem,
		func(s *setUp) { s.lastRun = s.now.AddDate(0, 0, 3) }, func(s *setUp) { s.now = s.now.AddDate(0, 0, 4); s.fetched = s.now }},
	{"clock follows nobody", "clock", "does not follow", "timedatectl set-ntp true", Notice,
		func(s *setUp) { s.loose = true }, func(s *setUp) { s.loose = false }},
	{"no run yet", "ledger", "no run is remembered", "systemctl start ec-verify.service", Notice,
		func(s *setUp) { s.lastRun = time.Time{} }, func(s *setUp) { s.lastRun = s.now }},
	{"unit missing", "units", "there is no ec-verify.service", "make install", Problem,
		func(s *setUp) { s.units[0] = systemd.Unit{Name: VerifyUnit, Absent: true} }, func(s *setUp) { s.units[0] = s.units[1]; s.units[0].Name = VerifyUnit }},
	// A run by hand verifies this machine all the same.
	{"no units", "units", "none of the units is installed: only runs by hand verify this machine", "make install", Notice,
		func(s *setUp) { s.install(true) }, func(s *setUp) { s.install(false) }},
	{"no units, which would lack rights", "machine", "once it is installed, ec-verify.service can't check etc", "systemctl edit", Notice,
		func(s *setUp) { s.install(true); s.top["machine"] = map[string]any{"parts": []string{"etc"}} }, func(s *setUp) { s.install(false); delete(s.top, "machine") }},
	{"no units and no run", "ledger", "no run is remembered", "ec-verify", Notice,
		func(s *setUp) { s.install(true); s.lastRun = time.Time{} }, func(s *setUp) { s.install(false); s.lastRun = s.now }},
	{"units changed since", "units", "was changed since", "systemctl daemon-reload", Problem,
		func(s *setUp) { s.units[0].Stale = true }, func(s *setUp) { s.units[0].Stale = false }},
	{"unit changed by a drop-in", "units", "is changed by /etc/x.conf", "", Notice,
		func(s *setUp) { s.units[0].DropIns = []string{"/etc/x.conf"} }, func(s *setUp) { s.units[0].DropIns = nil }},
	{"program of the unit missing", "units", "which is not there", "make install", Problem,
		func(s *setUp) { s.units[0].Program = []string{"/nowhere/ec-verify"} }, func(s *setUp) { s.units[0].Program = []string{s.at("bin/ec-verify")} }},
	{"gate opened", "gate", "open, although ec-verify-gate.service is enabled", "systemctl restart ec-verify-gate.service", Notice,
		func(s *setUp) { s.gate.Enabled = "enabled" }, func(s *setUp) { s.closed = true }},
	{"gate not to be seen", "gate", "is not known: permission denied", "", Unknown,
		func(s *setUp) { s.noGate = fs.ErrPermission }, func(s *setUp) { s.noGate = nil }},
	{"timer not started", "timer", "is not started", "systemctl enable --now ec-verify.timer", Problem,
		func(s *setUp) { s.timer.State = systemd.TimerInactive }, func(s *setUp) { s.timer.State = systemd.TimerWaiting }},
	{"timer never fires", "timer", "no next run", "OnCalendar=", Problem,
		func(s *setUp) { s.timer.State = systemd.TimerElapsed }, func(s *setUp) { s.timer.State = systemd.TimerWaiting }},
	{"timer not enabled", "timer", "next boot", "systemctl enable --now", Problem,
		func(s *setUp) { s.units[3].Enabled = "disabled" }, func(s *setUp) { s.units[3].Enabled = "enabled" }},
	{"rebuilds that nothing starts", "timer", "ec-verify-rebuild.timer is not started: rebuild.choice requests rebuilds", "systemctl enable --now ec-verify-rebuild.timer", Problem,
		func(s *setUp) {
			s.json["rebuild"] = map[string]any{"choice": "config"}
			s.rebuild.State = systemd.TimerInactive
		}, func(s *setUp) { s.rebuild.State = systemd.TimerWaiting }},
	{"rebuilds that nobody asks for any more", "timer", "there is no ec-verify-rebuild.timer", "make install", Problem,
		func(s *setUp) {
			s.json["rebuild"] = map[string]any{"choice": "config"}
			s.rebuild.State = systemd.TimerAbsent
		}, func(s *setUp) { delete(s.json, "rebuild") }},
	{"no systemd", "timer", "no bus", "systemd", Unknown,
		func(s *setUp) { s.noSD, s.timer.State = errors.New("no bus"), systemd.TimerUnknown }, func(s *setUp) { s.noSD, s.timer.State = nil, systemd.TimerWaiting }},
}

func TestBrokenSetUps(t *testing.T) {
	for _, tc := range brokenSetUps {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetUp(t)
			if found := wrong(s.examine()); len(found) > 0 {
				t.Fatalf("before anything is broken: %+v", found)
			}
			tc.broken(s)
			var hit *Result
			for _, r := range wrong(s.examine()) {
				if r.Check == tc.check && r.State == tc.state && strings.Contains(r.Found, tc.found) && strings.Contains(r.Remedy, tc.remedy) {
					hit = &r
				}
			}
			if hit == nil {
				t.Fatalf("not found: %+v", wrong(s.examine()))
			}
			if tc.repair != nil {
				tc.repair(s)
			} else if out, err := exec.CommandContext(t.Context(), "sh", "-c", hit.Remedy).CombinedOutput(); err != nil { //nolint:gosec // the remedies above
				t.Fatalf("%s: %v\n%s", hit.Remedy, err, out)
			}
			if found := wrong(s.examine()); len(found) > 0 {
				t.Errorf("after the remedy %q: %+v", hit.Remedy, found)
			}
		})
	}
}

// wrong returns what is not in order.
func wrong(all []Result) []Result {
	var out []Result
	for _, r := range all {
		if r.State != OK {
			out = append(out, r)
		}
	}
	return out
}

// A check for every part of a run, in a fixed order, also where all is well.
func TestEveryCheckAnswers(t *testing.T) {
	var names []string
	for _, r := range newSetUp(t).examine() {
		if n := len(names); n == 0 || names[n-1] != r.Check {
			names = append(names, r.Check)
		}
	}
	want := "[configuration policy keys sources state metrics report key nix sources fetch releases flake database nix ledger clock units timer gate]"
	if got := fmt.Sprint(names); got != want {
		t.Errorf("checks %s, want %s", got, want)
	}
}
