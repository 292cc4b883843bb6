package bootloader

import (
	"fmt"
	"strings"
	"testing"
)

// TestDrives: a file is looked for wherever a command of the entry, or of the menu, may
// send GRUB.
func TestDrives(t *testing.T) {
	const uuid, search = "uuid AAAA-BBBB", "search --set=drive1 --fs-uuid AAAA-BBBB\n"
	for name, tc := range map[string]struct {
		before, in, file, after, env string
		want                         string
	}{
		"as NixOS has it":                  {search, search, "($drive1)//kernels/k", "", "", uuid},
		"before all entries alone":         {search, "", "($drive1)//kernels/k", "", "", uuid},
		"in the entry alone":               {"", search, "($drive1)//kernels/k", "", "", uuid},
		"in braces":                        {"", search, "(${drive1})//kernels/k", "", "", uuid},
		"by label":                         {"", "search --set=drive1 --label boot\n", "($drive1)/k", "", "", "label boot"},
		"of grub-mkconfig":                 {"", "search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint='hd0,gpt2' AAAA-BBBB\n", "/k", "", "", uuid},
		"where GRUB is":                    {search, search, "/kernels/k", "", "", ""},
		"another one in the entry":         {search, "search --set=drive1 --fs-uuid EEEE-EEEE\n", "($drive1)/k", "", "", "uuid EEEE-EEEE, " + uuid},
		"another one after it":             {search, search, "($drive1)/k", "search --set=drive1 --fs-uuid EEEE-EEEE\n", "", uuid + ", uuid EEEE-EEEE"},
		"another one behind quotes":        {search, "'search' --set=drive1 --fs-uuid EEEE-EEEE\n", "($drive1)/k", "", "", "uuid EEEE-EEEE, " + uuid},
		"another one in a condition":       {search, "if true; then\n set drive1=hd1\nfi\n", "($drive1)/k", "", "", "? set drive1=hd1, " + uuid},
		"another one by a value":           {search, "drive1=hd1,gpt1\n", "($drive1)/k", "", "", "? drive1=hd1,gpt1, " + uuid},
		"another one by a file":            {search, "search --set=drive1 --file /evil\n", "($drive1)/k", "", "", "? search --set=drive1 --file /evil, " + uuid},
		"another one by a variable":        {search, "search --set=drive1 --fs-uuid $x\n", "($drive1)/k", "", "", "? search --set=drive1 --fs-uuid $x, " + uuid},
		"another one by two words":         {search, "search --set=drive1 --fs-uuid AAAA-BBBB E\n", "($drive1)/k", "", "", "? search --set=drive1 --fs-uuid AAAA-BBBB E, " + uuid},
		"another one by an old name":       {search, "search.fs_uuid E drive1\n", "($drive1)/k", "", "", "? search.fs_uuid E drive1, " + uuid},
		"another one by a loop":            {search, "for drive1 in hd1; do\n true\ndone\n", "($drive1)/k", "", "", "? for drive1 in hd1, " + uuid},
		"another one by short options":     {search, "search -us drive1 EEEE-EEEE\n", "($drive1)/k", "", "", "? search -us drive1 EEEE-EEEE, " + uuid},
		"another one by a value's options": {search, "search $x EEEE-EEEE\n", "($drive1)/k", "", "", "? search $x EEEE-EEEE, " + uuid},
		"another one in a file":            {search, search + "loopback loop0 /evil.img\n", "($drive1)/k", "", "", uuid + ", ? loopback loop0 /evil.img"},
		"another root by short options":    {search, "search -ns --fs-uuid EEEE-EEEE\n", "/k", "", "", "? search -ns --fs-uuid EEEE-EEEE"},
		"of grubenv":                       {search, search, "($drive1)/k", "", "drive1=hd1\n", uuid + ", ? grubenv"},
		"another root":                     {search, "set root=(hd1,gpt1)\n", "/k", "", "", "? set root=(hd1,gpt1)"},
		"another root by a search":         {search, "search --fs-uuid EEEE-EEEE --set\n", "/k", "", "", "? search --fs-uuid EEEE-EEEE --set"},
		"another root of grubenv":          {search, search, "/k", "", "root=hd1\n", "? grubenv"},
		"a number":                         {search, search, "(hd1,gpt1)/k", "", "", "? (hd1,gpt1)"},
		"a variable that nothing sets":     {search, search, "($drive2)/k", "", "", "? nothing sets $drive2"},
		"a part of a name":                 {search, search, "(hd$drive1)/k", "", "", "? (hd$drive1)"},
	} {
		script := tc.before + "menuentry x {\n" + tc.in + "linux " + tc.file + " init=/i\n}\n" + tc.after
		entries, err := parseGrub([]byte(script), []byte(tc.env))
		if err != nil || len(entries) != 1 || entries[0].Kernel != tc.file {
			t.Errorf("%s: %v: %+v", name, err, entries)
			continue
		}
		var got []string
		for _, d := range entries[0].Drives(entries[0].Kernel) {
			if d.Other != "" {
				got = append(got, "? "+d.Other)
			} else {
				got = append(got, d.By+" "+d.Value)
			}
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestManyDrives: a menu that sets more than is kept has none that is known.
func TestManyDrives(t *testing.T) {
	var b strings.Builder
	for i := range maxVariables + 10 {
		fmt.Fprintf(&b, "set a%d=x\n", i)
	}
	for i := range 2 * maxDrives {
		fmt.Fprintf(&b, "set a0=%d\n", i)
	}
	b.WriteString("set drive1=hd1\nmenuentry x {\nlinux ($drive1)/k\n}\nmenuentry y {\nlinux ($a0)/k\n}\n")
	entries, err := parseGrub([]byte(b.String()), nil)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v: %+v", err, entries)
	}
	if got := entries[0].Drives("($drive1)/k"); len(got) != 1 || got[0].Other == "" {
		t.Errorf("%+v", got)
	}
	if got := entries[1].Drives("($a0)/k"); len(got) != maxDrives+1 || got[maxDrives-1].Other != "$a0 has too many values" {
		t.Errorf("%+v", got)
	}
}
