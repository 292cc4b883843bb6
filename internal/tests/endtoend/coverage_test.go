package endtoend

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	parts "every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/tests/testhost"
)

// coverageFile has, after coverageHead, a row for each change.
const (
	coverageFile = "../../../docs/coverage.md"
	coverageHead = `| how a machine is changed | seen by | cause | nix | AIDE | comin |
|---|---|---|---|---|---|
`
)

// altered is a shell's words for a program of the release, its path, and a change of
// its bytes that leaves its times as they are.
const altered = `
	path=$(echo /nix/store/*-program-01-1.1); program=$path/bin/program-01; database=/nix/var/nix/db
	alter() { touch -r "$1" /root/times; printf x | dd of="$1" bs=1 seek=3 conv=notrunc status=none; touch -r /root/times "$1"; rm /root/times; }
`

// peerClasses are changes in docs/coverage.md, besides those of [changeClasses]. OBJECT is
// the path of a program of the release.
var peerClasses = []changeClass{
	{"a byte of a program", `cp -p $program /root/kept; alter $program`, `cat /root/kept >$program; touch -r /root/kept $program; rm /root/kept`, []string{"disk-altered OBJECT bin/program-01:content"}, "store"},
	{"a set-uid bit (`chmod u+s`)", `chmod u+s $program`, `chmod u-s $program`, []string{"permissions-altered OBJECT/bin/program-01"}, "store"},
	{"capabilities (`setcap`)", `setcap cap_setuid+ep $program`, `setcap -r $program`, []string{"permissions-altered OBJECT/bin/program-01"}, "store"},
	{"another owner (`chown`)", `chown nobody $program`, `chown root $program`, []string{"permissions-altered OBJECT/bin/program-01"}, "store"},
	{"a mode that keeps others from reading", `chmod 0500 $program`, `chmod 0555 $program`, []string{"permissions-altered OBJECT/bin/program-01"}, "store"},
	{"another group of the store (`chgrp users /nix/store`)", `group=$(stat -c %g /nix/store); echo $group >/root/group; chgrp users /nix/store`, `chgrp $(cat /root/group) /nix/store; rm /root/group`, []string{"permissions-altered /nix/store"}, "store"},
	{"a program bound over one of the store", `cp -p $program /root/bound; alter /root/bound; mount --bind /root/bound $program`, `umount $program; rm /root/bound`, []string{"mounted-over OBJECT/bin/program-01", "disk-altered OBJECT bin/program-01:content"}, "store"},
	{"an overlay over the store, and the disk beneath altered", `cp -p $program /root/kept; mkdir -p "/root/good/${path##*/}/bin"; cp -p $program "/root/good/${path##*/}/bin/"; for d in "" "${path##*/}" "${path##*/}/bin"; do chmod --reference=/nix/store/$d /root/good/$d; chown --reference=/nix/store/$d /root/good/$d; touch -r /nix/store/$d /root/good/$d; done; alter $program; mount -t overlay overlay -o ro,lowerdir=/root/good:/nix/store /nix/store`, `umount -l /nix/store; cat /root/kept >$program; touch -r /root/kept $program; rm -r /root/kept /root/good`, []string{"mounted-over /nix/store"}, "store"},
	{"an overlay over the database", `mkdir -p /run/over/upper /run/over/work; mount -t overlay overlay -o lowerdir=$database,upperdir=/run/over/upper,workdir=/run/over/work $database`, `umount -l $database; rm -r /run/over`, []string{"mounted-over /nix/var/nix/db"}, "store"},
	{"a file on a root that is kept in memory", `echo evil >/srv/.@`, `rm /srv/.@`, []string{"written-unknown /srv/.@"}, "written"},
	{"a set-uid shell in /var/tmp, on such a root", `cp /bin/sh /var/tmp/@; chmod 4755 /var/tmp/@`, `rm /var/tmp/@`, []string{"written-unknown /var/tmp/@"}, "written"},
	{"a directory of it for all to write", `chmod 777 /srv`, `chmod 755 /srv`, []string{"written-unknown /srv mode"}, "written"},
	// The last that looks there: nothing undoes it.
	{"a file removed from it (a whiteout)", `rmdir /mnt`, ``, []string{"written-unknown /mnt"}, "written"},
	{"a set-uid wrapper that is not the configuration's", `mkdir -p /run/wrappers/bin; cp /bin/true /run/wrappers/bin/@; chmod 4755 /run/wrappers/bin/@`, `rm -r /run/wrappers`, []string{"file-unknown /run/wrappers/bin/@"}, ""},
	{"a shell copied to /tmp, and running", `cp /bin/sh /tmp/sh@; run @ /tmp/sh@ -c 'kill -STOP $$'`, `end @ KILL; rm /tmp/sh@`, []string{"code-unknown /tmp/sh@"}, ""},
	{"`nc` that listens", `run @ busybox nc -l -p 4444`, `end @`, []string{"socket-unknown /usr/bin/busybox tcp [::]:4444"}, "nc"},
}

// seenBy says what looks at a change, by one of the causes that it is found with.
func seenBy(cause string) string {
	name, what, _ := strings.Cut(cause, " ")
	switch name {
	case "disk-altered", "permissions-altered":
		return "`contents`"
	case "mounted-over", "foreign-mount":
		if strings.HasPrefix(what, "OBJECT") || strings.HasPrefix(what, "/nix/") {
			return "`live`, `contents`, `machine` (`mounts`)"
		}
		return "`machine` (`mounts`)"
	case "account-altered", "etc-altered", "file-unknown":
		return "`machine` (`etc`)"
	case "unit-unknown", "unit-stale", "unit-altered":
		return "`machine` (`units`)"
	case "code-unknown":
		return "`machine` (`code`)"
	case "socket-unknown":
		return "`machine` (`sockets`)"
	case "firewall-altered":
		return "`machine` (`firewall`)"
	case "written-unknown":
		return "`machine` (`written`)"
	}
	panic("nothing is known to see " + cause)
}

// row is what docs/coverage.md says of a change, but for what the peers see.
func (c *changeClass) row() string {
	var causes, seen []string
	for _, cause := range c.causes {
		if by := seenBy(cause); !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, by) }) {
			seen = append(seen, by)
		}
		name, what, _ := strings.Cut(cause, " ")
		what = strings.NewReplacer("@*", "…", "@", "…", "OBJECT", "/nix/store/…").Replace(what)
		causes = append(causes, "`"+name+"` `"+what+"`")
	}
	return fmt.Sprintf("| %s | %s | %s |", strings.ReplaceAll(c.name, "@", "…"), strings.Join(seen, ", "), strings.Join(causes, ", "))
}

// peers are what others say of a machine.
type peers struct{ nix, aide, comin string }

func (p peers) String() string { return fmt.Sprintf(" %s | %s | %s |", p.nix, p.aide, p.comin) }

// aideConfig is what the module services.aide for nixpkgs writes, with its default
// directories; its files are all within them. The group of checks, which that leaves
// open, is the one that Red Hat ships under the name. What a NixOS has not there, and
// what is written all the time, is left out.
func aideConfig() string {
	var b strings.Builder
	b.WriteString("database_in=file:/root/aide.db\ndatabase_out=file:/root/aide.db.new\nNORMAL = p+i+n+u+g+s+m+c+acl+xattrs+sha512\n")
	for _, name := range append(testhost.Debian(), "/var/log/", "/var/lib/systemd/", "/var/lib/ec-verify/", "/var/tmp/", "/var/cache/") {
		b.WriteString("!" + strings.ReplaceAll(strings.TrimSuffix(name, "/"), ".", `\.`))
		if strings.HasSuffix(name, "/") {
			b.WriteString("(/|$)\n")
		} else {
			b.WriteString("$\n")
		}
	}
	for _, dir := range []string{"/etc", "/bin", "/sbin", "/usr", "/var", "/home", "/opt"} {
		b.WriteString(dir + " NORMAL\n")
	}
	return b.String()
}

// aideEntry is a line of AIDE's report for one file.
var aideEntry = regexp.MustCompile(`(?m)^[a-zA-Z?].{10,}: (/.*)$`)

// aide returns what AIDE reports, and has it take the machine for what it knows if keep.
func (m *machine) aide(keep bool) (files []string) {
	m.t.Helper()
	out, stderr, code := m.Exec(m.t.Context(), "aide", "--config=/root/aide.conf", "--update")
	if code > 7 {
		m.t.Fatalf("aide: exit %d\n%s%s", code, out, stderr)
	}
	for _, match := range aideEntry.FindAllStringSubmatch(out, -1) {
		// It is copied up to the upper layer with what Debian has in it.
		if match[1] != "/usr" {
			files = append(files, match[1])
		}
	}
	if keep {
		m.Run("mv", "/root/aide.db.new", "/root/aide.db")
	}
	return files
}

// cominLooks is what of a machine `comin status` compares: where the kernels of the
// system that runs and of the one that was booted are (internal/utils/reboot.go).
const cominLooks = "readlink /run/current-system/kernel /run/booted-system/kernel"

// ask returns what the peers say of a machine, whose state before the change comin and
// AIDE know.
func (m *machine) ask(cominBefore string) peers {
	m.t.Helper()
	p := peers{"nothing", "nothing", "nothing"}
	if out, stderr, code := m.Exec(m.t.Context(), "nix", "store", "verify", "--all", "--no-trust"); code != 0 {
		p.nix = "found"
		m.t.Logf("nix: exit %d %s%s", code, out, stderr)
	}
	if files := m.aide(false); len(files) > 0 {
		p.aide = "found"
		m.t.Logf("aide: %s", strings.Join(files, " "))
	}
	if m.Run("sh", "-c", cominLooks) != cominBefore {
		p.comin = "found"
	}
	return p
}

const writtenConfig = "/root/written.json"

// startCovered returns a host on which changes are tried one by one.
func startCovered(t *testing.T) *machine {
	m := startReleased(t, "nftables")
	m.ShowUpper()
	m.Run("useradd", "--create-home", "--system", "visitor")
	m.askMachineBut([]string{"/root/", releases + "/", "/home/visitor/"}, "written")
	m.Run("mv", machineConfig, writtenConfig)
	m.askMachine(slices.DeleteFunc(parts.Parts(), func(part string) bool { return part == "written" })...)
	m.Run("sh", "-c", "systemctl start systemd-hostnamed; systemctl daemon-reload")
	m.tried("verified", nil, machineConfig)
	m.write("/root/aide.conf", aideConfig())
	m.Run("aide", "--config=/root/aide.conf", "--init")
	m.Run("mv", "/root/aide.db.new", "/root/aide.db")
	if got := m.ask(m.Run("sh", "-c", cominLooks)); got != (peers{"nothing", "nothing", "nothing"}) {
		t.Fatalf("of a machine that is the release: nix%s", got)
	}
	return m
}

// tried holds the machine to a verdict and causes.
func (m *machine) tried(verdict string, causes []string, config string) {
	m.t.Helper()
	a := m.verify("--config", config, "--unsafe-skip", "source,eval")
	for i, cause := range causes {
		if at := slices.IndexFunc(a.causes(), func(got string) bool { return isCause(cause, got) }); at >= 0 {
			causes[i] = a.causes()[at]
		}
	}
	a.expect(m.t, verdict, map[string]int{"verified": 0, "drifted": 1, "inconclusive": 4}[verdict], causes...)
}

// unclear are causes that no drift follows from: nobody can tell what is there.
var unclear = regexp.MustCompile("^(mounted-over|unit-stale) ")

// try makes a change, and returns what the peers say of it.
func (m *machine) try(c *changeClass) peers {
	m.t.Helper()
	d := draw{c, "x7"}
	of := func(text string) string { return strings.ReplaceAll(d.of(text), "OBJECT", m.path("program-01-1.1")) }
	comin := m.Run("sh", "-c", cominLooks)
	m.aide(true)
	m.Run("sh", "-euc", running+altered+d.of(c.do))
	defer m.Run("sh", "-euc", running+altered+d.of(c.undo))
	verdict, config := "drifted", machineConfig
	var causes []string
	for _, cause := range c.causes {
		causes = append(causes, of(cause))
	}
	if !slices.ContainsFunc(causes, func(cause string) bool { return !unclear.MatchString(cause) }) {
		verdict = "inconclusive"
	}
	if strings.HasPrefix(causes[0], "written-unknown ") {
		config = writtenConfig
	}
	m.tried(verdict, causes, config)
	return m.ask(comin)
}

// TestCoverage: what docs/coverage.md says of each change is so. The changes of
// [changeClasses] are tried by TestMachineRandom, and here, with -update, those of which
// it says nothing yet.
func TestCoverage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(coverageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), coverageHead)
	if !ok {
		t.Fatalf("%s has no table that begins with\n%s", coverageFile, coverageHead)
	}
	table, after, _ := strings.Cut(rest, "\n\n")
	told := strings.Split(strings.TrimSpace(table), "\n")
	var all []*changeClass
	for _, list := range [][]changeClass{peerClasses, changeClasses} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	rows := make([]string, len(all))
	var try []int
	for i, c := range all {
		if at := slices.IndexFunc(told, func(row string) bool { return strings.HasPrefix(row, c.row()) }); at >= 0 {
			rows[i] = told[at]
		}
		if i < len(peerClasses) || *update && rows[i] == "" {
			try = append(try, i)
		}
	}
	hosts := min(4, len(try)/7)
	var lock sync.Mutex
	t.Run("hosts", func(t *testing.T) {
		for host := range hosts {
			t.Run(fmt.Sprint(host), func(t *testing.T) {
				t.Parallel()
				m := startCovered(t)
				for at := host; at < len(try); at += hosts {
					c := all[try[at]]
					t.Run(c.name, func(t *testing.T) {
						on := &machine{Host: m.Host, t: t, manifest: m.manifest}
						row := c.row() + on.try(c).String()
						lock.Lock()
						defer lock.Unlock()
						rows[try[at]] = row
					})
				}
				m.tried("verified", nil, machineConfig)
			})
		}
	})
	got := coverageHead + strings.Join(rows, "\n") + "\n\n"
	if want := coverageHead + table + "\n\n"; got != want && !*update {
		t.Errorf("%s: run this test with -update, for\n%s", coverageFile, testhost.ChangedLines(want, got))
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(coverageFile, []byte(before+got+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
