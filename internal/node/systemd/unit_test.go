package systemd

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitOf(t *testing.T) {
	got := unitOf("ec-verify.service", map[string]any{
		"LoadState": "loaded", "UnitFileState": "static", "FragmentPath": "/usr/lib/systemd/system/ec-verify.service",
		"DropInPaths": []string{"/etc/systemd/system/ec-verify.service.d/a.conf"}, "NeedDaemonReload": true,
		"ExecStart":   [][]any{{"/usr/bin/ec-verify", []string{"/usr/bin/ec-verify", "--offline"}, false}},
		"ProtectHome": "yes", "ProtectSystem": "strict", "PrivateTmp": true,
		"InaccessiblePaths": []string{"-/nix/var", "/root"}, "ReadOnlyPaths": []string{}, "ReadWritePaths": []string{"-+/srv"},
		"StateDirectory": []string{"ec-verify"}, "BindReadOnlyPaths": [][]any{{"/home/x", "/mnt/x", false, uint64(0)}},
	})
	want := Unit{
		Name: "ec-verify.service", Enabled: "static", File: "/usr/lib/systemd/system/ec-verify.service",
		DropIns: []string{"/etc/systemd/system/ec-verify.service.d/a.conf"}, Stale: true, Program: []string{"/usr/bin/ec-verify", "--offline"},
		Sandbox: Sandbox{
			ProtectHome: "yes", ProtectSystem: "strict", PrivateTmp: true, Inaccessible: []string{"/nix/var", "/root"},
			ReadOnly: []string{}, ReadWrite: []string{"/srv"}, State: []string{"ec-verify"}, Bound: []string{"/mnt/x"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := unitOf("x.service", map[string]any{"LoadState": "not-found"}); !got.Absent {
		t.Errorf("%+v is not absent", got)
	}
	// Whatever another systemd sends, it is no panic.
	if got := unitOf("x", map[string]any{"ExecStart": 5, "BindPaths": [][]any{{}, {1, 2}}, "DropInPaths": "x"}); got.Program != nil {
		t.Errorf("%+v", got)
	}
}
