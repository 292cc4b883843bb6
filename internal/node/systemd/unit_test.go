package systemd

import (
	"math"
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
		"CapabilityBoundingSet": uint64(1<<2 | 1<<19), "PrivateNetwork": true, "RestrictAddressFamilies": []any{true, []string{"AF_UNIX"}},
		"StateDirectory": []string{"ec-verify"}, "BindReadOnlyPaths": [][]any{{"/home/x", "/mnt/x", false, uint64(0)}},
	})
	want := Unit{
		Name: "ec-verify.service", Enabled: "static",
		DropIns: []string{"/etc/systemd/system/ec-verify.service.d/a.conf"}, Stale: true, Program: []string{"/usr/bin/ec-verify", "--offline"},
		Sandbox: Sandbox{
			ProtectHome: "yes", ProtectSystem: "strict", PrivateTmp: true, Inaccessible: []string{"/nix/var", "/root"},
			ReadOnly: []string{}, ReadWrite: []string{"/srv"}, State: []string{"ec-verify"}, Bound: []string{"/mnt/x"},
			Capabilities: 1<<2 | 1<<19, PrivateNetwork: true, Families: Families{Only: true, Names: []string{"AF_UNIX"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := unitOf("x.service", map[string]any{"LoadState": "not-found"}); !got.Absent {
		t.Errorf("%+v is not absent", got)
	}
	// What systemd does not report restricts nothing.
	if s := unitOf("x", nil).Sandbox; s.Capabilities != math.MaxUint64 || s.PrivateNetwork || !s.Families.Allow("AF_NETLINK") {
		t.Errorf("%+v", s)
	}
	for _, tc := range []struct {
		families Families
		allowed  bool
	}{
		{Families{}, true},
		{Families{Only: true}, false}, // RestrictAddressFamilies=none
		{Families{Only: true, Names: []string{"AF_UNIX", "AF_NETLINK"}}, true},
		{Families{Names: []string{"AF_NETLINK"}}, false}, // ~AF_NETLINK
	} {
		if got := tc.families.Allow("AF_NETLINK"); got != tc.allowed {
			t.Errorf("%+v: allowed is %v", tc.families, got)
		}
	}
	// Whatever another systemd sends, it is no panic.
	if got := unitOf("x", map[string]any{"ExecStart": 5, "BindPaths": [][]any{{}, {1, 2}}, "DropInPaths": "x", "RestrictAddressFamilies": []any{1, 2}}); got.Program != nil {
		t.Errorf("%+v", got)
	}
}
