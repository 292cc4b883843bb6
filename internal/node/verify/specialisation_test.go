package verify

import (
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// TestSpecialisation: a machine whose profile leads to a specialisation of the release
// is that release, and named so; what only says that it is one is not.
func TestSpecialisation(t *testing.T) {
	desk := object("g", "nixos-system-desk")
	newDesk := func(t *testing.T) *machine {
		m := newMachine(t)
		m.unseal()
		m.write(string(desk)+"/init", "#!/bin/sh")
		m.link(string(top)+"/specialisation/desk", string(desk))
		m.seal()
		m.files = nil
		m.manifest.Paths = []closure.PathInfo{m.info(data), m.info(lib, data), m.info(src), m.info(top, data, lib, src, desk), m.info(desk)}
		m.sql("drop table Refs", "drop table ValidPaths")
		m.register(m.manifest.Paths...)
		m.publish(testTag)
		m.remove("/nix/var/nix/profiles/system-1-link")
		m.link("/nix/var/nix/profiles/system-1-link", string(desk))
		return m
	}
	for _, test := range []struct {
		name     string
		do       func(m *machine)
		verdict  report.Verdict
		findings []string
	}{
		{"it runs", func(*machine) {}, report.Verified, nil},
		{"a byte in it", func(m *machine) { m.write(string(desk)+"/init", "#!/bin/SH") }, report.Drifted, []string{"disk-altered nixos-system-desk init:content"}},
		{"a system that it does not name", func(m *machine) {
			m.remove("/nix/var/nix/profiles/system-1-link")
			m.link("/nix/var/nix/profiles/system-1-link", string(lib))
		}, report.Drifted, []string{"other-profile /nix/var/nix/profiles/system"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newDesk(t)
			m.unseal()
			test.do(m)
			m.seal()
			r := m.verifier().Verify(t.Context(), nil)
			if got := summary(r); r.Verdict() != test.verdict || !slices.Equal(got, test.findings) {
				t.Errorf("%s, %q; want %s, %q", r.Verdict(), got, test.verdict, test.findings)
			}
			named := r.Release.Specialisation == "desk"
			if want := test.verdict == report.Verified || test.findings[0] != "other-profile /nix/var/nix/profiles/system"; named != want {
				t.Errorf("the specialisation is named: %v", named)
			}
			// What a tier says of itself is what it left out.
			if slices.ContainsFunc(r.Tiers, func(t report.Tier) bool { return strings.Contains(t.Why, "desk") }) {
				t.Errorf("it counts as left out: %+v", r.Tiers)
			}
		})
	}
}
