package bootloader

import "testing"

// What GRUB makes of parameters, by its sources (grub_create_loader_cmdline of 2.12).
func TestGrubLine(t *testing.T) {
	const none = "none"
	for _, test := range []struct{ parameters, want string }{
		{"", ""},
		{"quiet  loglevel=4", "quiet loglevel=4"},
		{`acpi_osi="!Windows 2020" root="fstab"`, `"acpi_osi=!Windows 2020" root=fstab`},
		{`dyndbg='file  a.c +p'`, `"dyndbg=file  a.c +p"`},
		{`a=b\c`, "a=bc"},
		{`a=b\\c`, `a=b\\c`},
		{`a="b\"c"`, `a=b\"c`},
		{`a='b"c d'`, `"a=b\"c d"`},
		{`a="it's"`, `a=it\'s`},
		{`a='\x20\xg0'`, `a=\x20\\xg0`},
		{`a=b\ c`, `"a=b c"`},
		{"a=b #c d", "a=b"},
		{"a=b;boot", none},
		{"a={b}", none},
		{"a=b&c", none},
		{"a=$b", none},
		{"a='$b'", none},
	} {
		got, ok := GrubLine(test.parameters)
		if !ok {
			got = none
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.parameters, got, test.want)
		}
	}
}
