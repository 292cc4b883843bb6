package main

import (
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/internal/node/config"
)

// TestAskedBy: which command lines are the policy's, with what a flag makes of the
// configuration.
func TestAskedBy(t *testing.T) {
	policy, err := config.Parse([]byte(`{"release": {"source": ["/srv/releases"], "accept": ["boot-v1", "boot-v2"]},
		"rebuild": {"choice": "sample"}, "unsafeSkip": ["eval"], "contents": {"budget": "1h"}}`))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	_, key := keyPair(t, nil)
	for _, tc := range []struct {
		args []string
		unit string
		look bool
	}{
		{nil, "", false},
		{[]string{"--against", "boot-v2"}, "", false},
		{[]string{"--against", "boot-v3"}, "", true},
		{[]string{"--against", "boot-v3"}, "run-r1.service", true},
		{[]string{"--against", "boot-v3"}, "ec-verify.service", false},
		// What the units have.
		{[]string{"--offline", "--rebuild", "none", "--wait", "2h"}, "ec-verify.service", false},
		{[]string{"--offline", "--rebuild", "none", "--wait", "2h"}, "", false},
		// What changes nothing of what is checked.
		{[]string{"--workers", "3", "--nonce", "x", "--all", "--long", "--brief", "--quiet", "--stall-after", "1h", "--metrics-file", "/srv/x.prom", "--dry-run"}, "", false},
		// What is said twice.
		{[]string{"--release", "/srv/releases", "--rebuild", "sample", "--read", "cached", "--state-dir", "/var/lib/ec-verify", "--contents-budget", "1h"}, "", false},
		{[]string{"--release", "/srv/other"}, "", true},
		{[]string{"--key", key}, "", true},
		{[]string{"--configuration", "machine"}, "", true},
		{[]string{"--flake", "/etc/flake"}, "", true},
		{[]string{"--state-dir", "/srv/state"}, "", true},
		{[]string{"--read", "disk"}, "", true},
		{[]string{"--rebuild", "all"}, "", true},
		{[]string{"--rebuild", "all"}, "ec-verify-rebuild.service", false},
		{[]string{"--budget", "3s"}, "", true},
		{[]string{"--contents-budget", "3s"}, "", true},
		{[]string{"--unsafe-unsigned"}, "", true},
		{[]string{"--unsafe-allow-rollback"}, "", true},
		{[]string{"--unsafe-skip", "live"}, "", true},
		{[]string{"--store-root", "."}, "", true},
		{[]string{"--store-root", "."}, "ec-verify.service", true},
	} {
		var flags verifyFlags
		cmd := &cobra.Command{}
		flags.register(cmd)
		if err := cmd.ParseFlags(tc.args); err != nil {
			t.Fatal(err)
		}
		cmd.Flags().Visit(func(f *pflag.Flag) { tried[f.Name] = true })
		c := policy
		c.UnsafeSkip = slices.Clone(policy.UnsafeSkip)
		if err := flags.apply(cmd, &c); err != nil {
			t.Fatal(err)
		}
		if why := askedBy(policy, c, flags.against, tc.unit).Look(); (why != "") != tc.look {
			t.Errorf("%q in %q: look %q", tc.args, tc.unit, why)
		}
	}
	cmd := &cobra.Command{}
	new(verifyFlags).register(cmd)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !tried[f.Name] {
			t.Errorf("--%s: nobody says whether it makes a run a look", f.Name)
		}
	})
}
