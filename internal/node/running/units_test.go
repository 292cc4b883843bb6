package running

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnits(t *testing.T) {
	begun, done := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	loaded := func(units ...Unit) func(*host) {
		return func(h *host) {
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return &Units{Units: units, Begun: begun, Done: done}, nil }
		}
	}
	for _, test := range []struct {
		name string
		do   func(h *host)
		want []string
	}{
		{"as released", loaded(
			Unit{Name: "sshd.service", Fragment: "/etc/systemd/system/bin/sh"},
			Unit{Name: "dev-sda.device"},
			Unit{Name: "off.service", Fragment: "/etc/systemd/system/bin/off.service"},
			Unit{Name: "session-1.scope", Fragment: "/run/systemd/transient/session-1.scope", DropIns: []string{"/run/systemd/transient/session-1.scope.d/50-x.conf"}},
		), nil},
		{"of another store path", func(h *host) {
			h.write(string(object("f", "evil"))+"/evil.service", "", 0o444)
			loaded(Unit{Name: "evil.service", Fragment: string(object("f", "evil")) + "/evil.service"})(h)
		}, []string{"unit-unknown " + string(object("f", "evil")) + "/evil.service"}},
		{"of the release, and of none of its units", func(h *host) {
			h.write(string(etcPath)+"/example/evil.service", "", 0o444)
			loaded(Unit{Name: "evil.service", Fragment: string(etcPath) + "/example/evil.service"})(h)
		}, []string{"unit-unknown " + string(etcPath) + "/example/evil.service"}},
		{"removed after it was started", loaded(Unit{Name: "evil.service", Fragment: "/run/evil.service"}), []string{"unit-unknown /run/evil.service"}},
		{"changed by a drop-in", loaded(
			Unit{Name: "sshd.service", Fragment: "/etc/systemd/system/bin/sh", DropIns: []string{"/run/systemd/system/sshd.service.d/a.conf"}},
		), []string{"unit-unknown /run/systemd/system/sshd.service.d/a.conf"}},
		{"transient", loaded(Unit{Name: "run-1.service", Fragment: "/run/systemd/transient/run-1.service"}), []string{"unit-unknown /run/systemd/transient/run-1.service"}},
		{"read before it was changed", loaded(Unit{Name: "sshd.service", Fragment: "/etc/systemd/system/bin/sh", Stale: true}), []string{"unit-stale unit sshd.service"}},
		{"without a file since a reload", loaded(Unit{Name: "evil.service", Gone: true}), []string{"unit-unknown unit evil.service"}},
		{"with a preload for all", func(h *host) {
			h.m.LoadedUnits = func(context.Context) (*Units, error) {
				return &Units{Environment: []string{"PATH=/bin", "LD_PRELOAD=/tmp/x.so"}}, nil
			}
		}, []string{"unit-altered the service manager:LD_PRELOAD"}},
		{"what the configuration gives to all", func(h *host) {
			h.write(string(shell)+"/system.conf", "[Manager]\nDefaultEnvironment=\"PYTHONPATH=/nix/x\"\n", 0o444)
			h.link(string(etcPath)+"/etc/systemd/system.conf", string(shell)+"/system.conf")
			h.link("/etc/systemd/system.conf", "/etc/static/systemd/system.conf")
			h.m.LoadedUnits = func(context.Context) (*Units, error) {
				return &Units{Environment: []string{"PATH=/run/wrappers/bin:" + string(shell) + "/bin:/usr/bin", "PYTHONPATH=/nix/x", "LANG=C"}}, nil
			}
		}, nil},
		{"other programs for all", func(h *host) {
			h.m.LoadedUnits = func(context.Context) (*Units, error) {
				return &Units{Environment: []string{"PATH=/usr/bin/../../tmp:/bin", "PERL5OPT=-Mevil"}}, nil
			}
		}, []string{"unit-altered the service manager:PATH", "unit-altered the service manager:PERL5OPT"}},
		{"read from a file that was put back", func(h *host) {
			h.write(string(shell)+"/bin/a.service", "[Service]\nExecStart=/bin/a\n", 0o444)
			loaded(Unit{Name: "a.service", Fragment: "/etc/systemd/system/bin/a.service", Commands: []Command{{"/tmp/evil", []string{"/tmp/evil"}}}})(h)
		}, []string{"unit-altered unit a.service:program"}},
		{"a firewall that runs", func(h *host) {
			h.link(string(shell)+"/sysinit.target.wants/firewall.service", string(shell)+"/bin/sh")
			loaded(Unit{Name: "firewall.service", Active: true})(h)
		}, nil},
		{"a firewall that was stopped", func(h *host) {
			h.link(string(shell)+"/sysinit.target.wants/firewall.service", string(shell)+"/bin/sh")
			loaded(Unit{Name: "firewall.service"})(h)
		}, []string{"unit-altered unit firewall.service:state"}},
		{"a firewall that is not loaded", func(h *host) {
			h.link(string(shell)+"/multi-user.target.wants/nftables.service", string(shell)+"/bin/sh")
			loaded()(h)
		}, []string{"unit-altered unit nftables.service:state"}},
		{"not loaded", func(h *host) {
			loaded()(h)
			h.write("/run/systemd/system/evil.service", "", 0o644)
			h.write("/run/systemd/system/sshd.service.d/a.conf", "", 0o644)
			h.link("/run/systemd/system/firewall.service", "/dev/null")
			h.write("/run/systemd/system-generators/evil", "", 0o755)
			h.write("/run/systemd/user-environment-generators/evil", "", 0o755)
		}, []string{
			"unit-unknown /run/systemd/system-generators/evil", "unit-unknown /run/systemd/system/evil.service",
			"unit-unknown /run/systemd/system/firewall.service", "unit-unknown /run/systemd/system/sshd.service.d/a.conf",
			"unit-unknown /run/systemd/user-environment-generators/evil",
		}},
		{"generated", func(h *host) {
			h.write("/run/systemd/generator/boot.mount", "", 0o644)
			h.link("/run/systemd/generator/local-fs.target.wants/boot.mount", "../boot.mount")
			loaded(Unit{Name: "boot.mount", Fragment: "/run/systemd/generator/boot.mount"})(h)
		}, nil},
		{"put among the generated ones", func(h *host) {
			h.write("/run/systemd/generator/evil.service", "", 0o644)
			long := time.Now().Add(-time.Hour)
			h.must(os.Chtimes(h.root+"/run/systemd/generator/evil.service", long, long))
			h.m.LoadedUnits = func(context.Context) (*Units, error) {
				return &Units{Units: []Unit{{Name: "evil.service", Fragment: "/run/systemd/generator/evil.service"}}, Begun: long, Done: long.Add(time.Second)}, nil
			}
		}, []string{"unit-unknown /run/systemd/generator/evil.service"}},
		{"generated at a reload", func(h *host) {
			h.write("/run/systemd/generator/boot.mount", "", 0o644)
			boot, reload := time.Now().Add(-time.Hour), time.Now().Add(-2*time.Second)
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return &Units{Begun: boot, Done: boot, Loaded: reload}, nil }
		}, nil},
		{"put there long after the reload", func(h *host) {
			h.write("/run/systemd/generator/boot.mount", "", 0o644)
			boot, reload := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return &Units{Begun: boot, Done: boot, Loaded: reload}, nil }
		}, []string{"unit-unknown /run/systemd/generator/boot.mount"}},
		{"generated while the clock was set back", func(h *host) {
			h.write("/run/systemd/generator/boot.mount", "", 0o644)
			set := -3 * time.Hour
			reload := time.Now().Add(-2*time.Second - set)
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return &Units{Loaded: reload, Set: set}, nil }
		}, nil},
		{"put there after the clock was set", func(h *host) {
			h.write("/run/systemd/generator/boot.mount", "", 0o644)
			set := 3 * time.Hour
			reload := time.Now().Add(-time.Minute - set)
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return &Units{Loaded: reload, Set: set}, nil }
		}, []string{"unit-unknown /run/systemd/generator/boot.mount"}},
		{"nobody tells", func(h *host) {
			h.m.LoadedUnits = func(context.Context) (*Units, error) { return nil, os.ErrPermission }
		}, []string{"machine-unseen part units"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			test.do(h)
			h.expect("units", test.want...)
		})
	}
}

// While generators run again, and again, it is looked again, and not for ever.
func TestUnitsChanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		asked := 0
		h.m.LoadedUnits = func(context.Context) (*Units, error) {
			asked++
			return &Units{Loaded: time.Unix(int64(asked), 0)}, nil
		}
		h.expect("units", "machine-unseen part units")
		if asked != 2*maxAttempts {
			t.Errorf("asked %d times", asked)
		}
	})
}
