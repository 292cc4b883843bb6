package running

import (
	"os"
	"testing"
	"time"
)

func TestMayChange(t *testing.T) {
	h := newHost(t)
	made := string(shell) + "/a.service"
	h.write(made, "x", 0o444)
	h.must(os.Chtimes(h.root+made, time.Unix(1, 0), time.Unix(1, 0)))
	h.write("/run/units/new.service", "x", 0o644)
	h.write(string(shell)+"/empty.service", "", 0o444)
	h.must(os.Chtimes(h.root+string(shell)+"/empty.service", time.Unix(1, 0), time.Unix(1, 0)))
	h.link("/etc/units/a.service", made)
	h.link("/etc/units/masked.service", "/dev/null")
	h.link("/etc/units/alias.service", "main.service")
	h.link("/run/units/main.service", made)
	h.link("/etc/units/main.service", made)
	h.link("/etc/units/other@.service", "named@.service")
	for _, dir := range []string{"other@x.service.d", "foo-.service.d", "tpl@.service.d", "one@two.service.d", "alias.service.d", "timer.d"} {
		h.write("/run/units/"+dir+"/x.conf", "", 0o644)
	}
	dirs := readUnitDirs(h.m.Store, []string{"/etc/units", "/run/units"})
	for _, c := range []struct {
		name, fragment string
		dropIns        []string
		want           bool
	}{
		{name: "c.service", fragment: "/etc/units/a.service"},
		{name: "b.mount"},
		{name: "foobar.service", fragment: made},
		{name: "main.socket", fragment: made},
		{name: "b.mount", dropIns: []string{"/run/x"}, want: true},
		{name: "new.service", fragment: "/run/units/new.service", want: true},
		{name: "empty.service", fragment: string(shell) + "/empty.service", want: true},
		{name: "masked.service", fragment: "/etc/units/masked.service", want: true},
		{name: "absent.service", fragment: "/etc/units/absent.service", want: true},
		{name: "foo-bar.service", fragment: made, want: true},
		{name: "foo-bar-baz@1.service", fragment: made, want: true},
		{name: "tpl@a@b.service", fragment: made, want: true},
		{name: "one@two.service", fragment: made, want: true},
		{name: "a.timer", fragment: made, want: true},
		{name: "main.service", fragment: made, want: true},    // by another name
		{name: "named@x.service", fragment: made, want: true}, // by another name of its template
	} {
		if got := dirs.mayChange(&Unit{Name: c.name, Fragment: c.fragment, DropIns: c.dropIns}); got != c.want {
			t.Errorf("%s of %q, drop-ins %q: %v", c.name, c.fragment, c.dropIns, got)
		}
	}
}
