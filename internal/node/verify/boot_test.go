package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// entry writes an entry of systemd-boot.
func (m *machine) entry(generation int, init string) {
	m.t.Helper()
	name := ""
	if system, _, err := closure.DefaultStoreDir.Within(strings.Fields(init)[0]); err == nil {
		name = system.Name()
	}
	m.write(fmt.Sprintf("/boot/loader/entries/nixos-generation-%d.conf", generation), fmt.Sprintf(
		"title NixOS\nsort-key nixos\nversion Generation %d\nlinux /EFI/nixos/%s\ninitrd /EFI/nixos/%s\noptions init=%s loglevel=4 %s\n",
		generation, bootName(kernelPath, "bzImage.efi"), bootName(initrdPath, "initrd.efi"), init, name))
}

// runMenu is a run that looks at a running machine, as far as that may lie on a disk.
func (m *twoSystems) runMenu(ctx context.Context) *report.Report {
	m.t.Helper()
	r := m.v.begin(nil)
	r.tier(ctx, tiers()[0])
	r.tier(ctx, tier{name: report.TierLive, check: func(r *run, ctx context.Context, t *report.Tier) error {
		r.live.running = top
		r.checkLink(ctx, t, liveLink{name: SystemProfile, cause: report.OtherProfile, next: true})
		r.checkBoot(ctx, t, m.line)
		return nil
	}})
	r.tier(ctx, tier{name: report.TierContents, check: (*run).checkContents})
	r.conclude()
	return r.end()
}

// A file that entries of several releases start is of each of them.
func TestReleasesOfABootFile(t *testing.T) {
	for _, test := range []struct {
		entries  []closure.StorePath // the last is the default
		release  string
		releases []string
	}{
		{[]closure.StorePath{top}, "", nil},
		{[]closure.StorePath{nextTop, top}, "", []string{string(testTag), string(nextTag)}},
		{[]closure.StorePath{top, nextTop}, "", []string{string(testTag), string(nextTag)}},
		{[]closure.StorePath{nextTop}, string(nextTag), []string{string(nextTag)}},
	} {
		m := newBootable(t)
		m.systemdBoot()
		m.remove("/boot/loader")
		for i, system := range test.entries {
			m.entry(i+1, string(system)+"/init")
		}
		m.write("/boot/EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), strings.Repeat("Kernel", 100_000))
		r := m.runMenu(t.Context())
		i := slices.IndexFunc(r.Findings, func(f report.Finding) bool { return f.Cause == report.BootAltered })
		if i < 0 {
			t.Fatalf("%q", summary(r))
		}
		if f := r.Findings[i]; f.Release != test.release || !slices.Equal(f.Releases, test.releases) {
			t.Errorf("entries for %q: of %q, %q; want %q, %q", test.entries, f.Release, f.Releases, test.release, test.releases)
		}
	}
}

func TestEntries(t *testing.T) {
	older := object("y", "nixos-system-older")
	const entry = " /boot/loader/entries/nixos-generation-"
	for _, test := range []struct {
		name     string
		do       func(m *twoSystems)
		verdict  report.Verdict
		findings []string
		paths    int
	}{
		{"the running system alone", func(m *twoSystems) { m.entry(1, string(top)+"/init") }, report.Verified, nil, 10},
		{"another accepted one can be chosen", func(m *twoSystems) {
			m.entry(1, string(nextTop)+"/init")
			m.entry(2, string(top)+"/init")
		}, report.Verified, nil, 12},
		{"a byte in one that can be chosen", func(m *twoSystems) {
			m.entry(1, string(nextTop)+"/init")
			m.entry(2, string(top)+"/init")
			m.write(string(tool), "A tool")
		}, report.Drifted, []string{"disk-altered tool"}, 12},
		{"another accepted one is the default", func(m *twoSystems) {
			m.entry(1, string(top)+"/init")
			m.entry(2, string(nextTop)+"/init")
		}, report.Verified, []string{"pending-reboot" + entry + "2.conf"}, 12},
		{"a byte in the default", func(m *twoSystems) {
			m.entry(1, string(top)+"/init")
			m.entry(2, string(nextTop)+"/init")
			m.write(string(tool), "A tool")
		}, report.Drifted, []string{"disk-altered tool", "pending-altered" + entry + "2.conf < disk-altered"}, 12},
		{"the default leads to no accepted one", func(m *twoSystems) {
			m.write(string(older)+"/init", "x")
			m.link("/nix/var/nix/profiles/system-2-link", string(older))
			m.entry(1, string(top)+"/init")
			m.entry(2, string(older)+"/init")
		}, report.Drifted, []string{"other-entry" + entry + "2.conf"}, 10},
		{"an older generation can be chosen", func(m *twoSystems) {
			m.write(string(older)+"/init", "x")
			m.link("/nix/var/nix/profiles/system-0-link", string(older))
			m.entry(0, string(older)+"/init")
			m.entry(1, string(top)+"/init")
		}, report.Verified, []string{"unaccepted-entry" + entry + "0.conf"}, 10},
		{"an older generation can be chosen, which the policy forbids", func(m *twoSystems) {
			m.v.StrictEntries = true
			m.write(string(older)+"/init", "x")
			m.link("/nix/var/nix/profiles/system-0-link", string(older))
			m.entry(0, string(older)+"/init")
			m.entry(1, string(top)+"/init")
		}, report.Drifted, []string{"other-entry" + entry + "0.conf"}, 10},
		{"a generation that is gone", func(m *twoSystems) {
			m.entry(0, string(older)+"/init")
			m.entry(1, string(top)+"/init")
		}, report.Verified, []string{"unaccepted-entry" + entry + "0.conf"}, 10},
		{"a system that no profile has", func(m *twoSystems) {
			m.write(string(older)+"/init", "x")
			m.entry(0, string(older)+"/init")
			m.entry(1, string(top)+"/init")
		}, report.Drifted, []string{"other-entry" + entry + "0.conf"}, 10},
		{"a system that is gone", func(m *twoSystems) {
			m.entry(1, string(top)+"/init")
			m.entry(2, string(nextTop)+"/init")
			m.remove(string(nextTop))
		}, report.Drifted, []string{"missing nixos-system-next", "pending-altered" + entry + "2.conf < missing"}, 12},
		{"a byte in the kernel of the default", func(m *twoSystems) {
			m.entry(1, string(top)+"/init")
			m.entry(2, string(nextTop)+"/init")
			m.write("/boot/EFI/nixos/"+bootName(kernelPath, "bzImage.efi"), strings.Repeat("Kernel", 100_000))
		}, report.Drifted, []string{"boot-altered /boot/EFI/nixos/" + bootName(kernelPath, "bzImage.efi") + " kernel", "pending-altered" + entry + "2.conf < boot-altered"}, 12},
		{"init= altered", func(m *twoSystems) {
			m.entry(0, "/evil/init")
			m.entry(1, string(top)+"/init")
		}, report.Drifted, []string{"other-entry" + entry + "0.conf"}, 10},
		{"init= of the default altered", func(m *twoSystems) { m.entry(1, string(lib)+"/init") }, report.Drifted, []string{"other-entry" + entry + "1.conf"}, 10},
		{"two init=", func(m *twoSystems) { m.entry(1, string(top)+"/init \"init=/evil\"") }, report.Drifted,
			[]string{"boot-altered" + entry + "1.conf options", "other-entry" + entry + "1.conf"}, 10},
		{"no init=", func(m *twoSystems) {
			m.write("/boot/loader/entries/a.conf", "linux /k\noptions quiet\n")
			m.entry(1, string(top)+"/init")
		}, report.Verified, []string{"unaccepted-entry /boot/loader/entries/a.conf"}, 10},
		{"an entry too large", func(m *twoSystems) {
			m.write("/boot/loader/entries/a.conf", fmt.Sprintf("%70000d", 0))
			m.entry(1, string(top)+"/init")
		}, report.Unsettled, []string{"live-unknown /boot/loader/entries/a.conf"}, 10},
		{"a link for an entry", func(m *twoSystems) {
			m.link("/boot/loader/entries/a.conf", "/etc/passwd")
			m.entry(1, string(top)+"/init")
		}, report.Unsettled, []string{"live-unknown /boot/loader/entries/a.conf"}, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newBootable(t)
			m.systemdBoot()
			m.remove("/boot/loader")
			test.do(m)
			plan, _ := m.v.Plan(t.Context())
			r := m.runMenu(t.Context())
			expect(t, r, test.verdict, test.findings...)
			// What was planned is what was done.
			if i := slices.IndexFunc(plan, func(p PlannedTier) bool { return p.Name == report.TierContents }); i < 0 || !strings.HasPrefix(plan[i].What, fmt.Sprintf("hash %d store paths", r.Coverage.Paths)) {
				t.Errorf("planned: %+v, and %d paths hashed", plan, r.Coverage.Paths)
			}
			if r.Coverage.Paths != test.paths {
				t.Errorf("%d paths, want %d", r.Coverage.Paths, test.paths)
			}
		})
	}
}
