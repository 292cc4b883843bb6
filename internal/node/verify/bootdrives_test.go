package verify

import (
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// TestGrubSearch: GRUB must search for the file system in which the files were compared.
func TestGrubSearch(t *testing.T) {
	const (
		search  = "search --set=drive1 --fs-uuid AAAA-BBBB"
		unknown = "udev has no name of the file system of "
		uncomp  = ", so the one that GRUB searches for was not compared"
	)
	boot := func(names ...fileSystemName) map[string][]fileSystemName {
		return map[string][]fileSystemName{"/boot": names, "/nix/store": {{"uuid", "store"}, {"label", "nixos"}}}
	}
	own := boot(fileSystemName{"uuid", "AAAA-BBBB"}, fileSystemName{"label", ""})
	each := func(field, old, by string) func(*twoSystems) string {
		return func(m *twoSystems) string {
			m.write("/boot/grub/grub.cfg", strings.ReplaceAll(m.read("/boot/grub/grub.cfg"), old, by))
			return field
		}
	}
	inStore := func(search string) func(*twoSystems) string {
		return func(m *twoSystems) string {
			text := m.read("/boot/grub/grub.cfg")
			for _, file := range []struct{ name, path string }{{bootName(kernelPath, "bzImage"), string(kernelPath) + "/bzImage"}, {bootName(initrdPath, "initrd"), string(initrdPath) + "/initrd"}} {
				text = strings.ReplaceAll(text, "($drive1)//kernels/"+file.name, "($drive2)"+file.path)
			}
			m.write("/boot/grub/grub.cfg", strings.ReplaceAll(text, "AAAA-BBBB\n  linux", "AAAA-BBBB\n"+search+"\n  linux"))
			return "search"
		}
	}
	for name, tc := range map[string]struct {
		names map[string][]fileSystemName
		do    func(*twoSystems) string // returns the field of what is found
		want  report.Cause             // of each entry; "" for nothing
		why   string
	}{
		"of /boot":                      {own, nil, "", ""},
		"of /boot, in small letters":    {own, each("", "AAAA-BBBB", "aaaa-bbbb"), "", ""},
		"of another disk":               {own, each("search", "AAAA-BBBB", "EEEE-EEEE"), report.BootAltered, ""},
		"of another disk in an entry":   {own, each("search", search+"\n  linux", "search --set=drive1 --fs-uuid EEEE-EEEE\n  linux"), report.BootAltered, ""},
		"by the label of /boot":         {boot(fileSystemName{"uuid", "x"}, fileSystemName{"label", "AAAA-BBBB"}), each("", "--fs-uuid", "--label"), "", ""},
		"by a label that /boot has not": {own, each("search", "--fs-uuid", "--label"), report.BootAltered, ""},
		"udev knows nothing":            {nil, nil, "", unknown + "/boot" + uncomp},
		"udev knows its label alone":    {boot(fileSystemName{"label", "x"}), nil, "", unknown + "/boot" + uncomp},
		"of nothing, where GRUB is":     {nil, each("", "($drive1)/", ""), "", ""},
		"another root":                  {own, each("kernel", search+"\n  linux ($drive1)/", "set root=(hd1,gpt1)\n  linux "), report.BootUnchecked, ""},
		"a number":                      {own, each("kernel", "linux ($drive1)", "linux (hd1,gpt1)"), report.BootUnchecked, ""},
		"of the store":                  {own, inStore("search --set=drive2 --fs-uuid store"), "", ""},
		"of the store by its label":     {own, inStore("search --set=drive2 --label nixos"), "", ""},
		"of another disk for the store": {own, inStore("search --set=drive2 --fs-uuid AAAA-BBBB"), report.BootAltered, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newBootable(t)
			m.grub()
			m.v.namesOf = func(dir string) []fileSystemName { return slices.Clone(tc.names[dir]) }
			field := ""
			if tc.do != nil {
				field = tc.do(m)
			}
			r := m.runMenu(t.Context())
			var got, want []string
			for _, f := range r.Findings {
				got = append(got, string(f.Cause)+" "+f.Path+" "+f.Field)
			}
			if tc.want != "" {
				const all = "NixOS - All configurations > NixOS - Configuration "
				for _, entry := range []string{"NixOS", all + "1 (2026-02-28 - 26.05)", all + "2 (2026-02-28 - 26.05)"} {
					want = append(want, string(tc.want)+" /boot/grub/grub.cfg: "+entry+" "+field)
				}
			}
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("findings\n\t%q\nwant\n\t%q", got, want)
				for _, f := range r.Findings {
					t.Logf("%+v", f)
				}
			}
			i := slices.IndexFunc(r.Tiers, func(t report.Tier) bool { return t.Name == report.TierLive })
			if why := r.Tiers[i].Why; strings.Contains(why, "udev") != (tc.why != "") || !strings.Contains(why, tc.why) {
				t.Errorf("why %q, want %q", why, tc.why)
			}
		})
	}
}

func TestNamesOfAFileSystem(t *testing.T) {
	got := namesAmong([]string{"/dev/sda1", "/dev/disk/by-uuid/AAAA-BBBB", `/dev/disk/by-label/My\x20boot`, "/dev/disk/by-partuuid/x", "/dev/disk/by-uuid/x/y"})
	if want := []fileSystemName{{"uuid", "AAAA-BBBB"}, {"label", "My boot"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := namesAmong([]string{"/dev/sda1", "/dev/disk/by-uuid/x"}); !slices.Equal(got, []fileSystemName{{"uuid", "x"}, {"label", ""}}) {
		t.Errorf("%v", got)
	}
	if got := namesAmong([]string{"/dev/sda1", "/dev/disk/by-partuuid/x"}); got != nil {
		t.Errorf("%v", got)
	}
	for device, m := range map[string]nixstore.Mount{
		"8:1": {Device: "8:1", Source: "/dev/none"},
		"":    {Device: "0:31", Source: "/dev/null", Type: "btrfs"},
	} {
		if got := blockDevice(&m); got != device {
			t.Errorf("%+v: %q, want %q", m, got, device)
		}
	}
}
