package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/bootlayouts"
	"every.channel/ec-verify/internal/tests/testhost"
)

var update = flag.Bool("update", false, "write the table in docs/gate.md anew")

// The four places where a system is judged, in the order of the table.
const (
	inCI = iota
	atCandidate
	atBoot
	atAudit
	places
)

// cell is the verdict on a machine in one place.
type cell struct {
	cause string // of the first finding that alone decides; "" for none
	code  int
}

func (c cell) String() string { return fmt.Sprintf("`%s`, %d", c.cause, c.code) }

// Why a class does not apply in a place.
const (
	noRelease  = "no release is created: the disk differs from Nix's database, so `manifest create` exits with 4"
	notInNAR   = "a release consists of NARs, which have neither bits nor owners, so it is the same"
	sameBytes  = "a builder's release contains the bytes that it hashed, whatever mount they came from"
	noMachine  = "CI compares builds, not machines; `images --inside` names the kernel and system of an image"
	notRunning = "a candidate does not run, and the loader has no entry for it yet"
	lateWord   = "a release is revoked only after it was published"
	noOrder    = "machines remember the releases that they have accepted; `publish` knows no machine"
	byName     = "CI compares builds of one commit, configuration by configuration"
)

// class is one way in which a machine comes to differ from what is accepted.
type class struct {
	name    string
	do      func()
	undo    func()
	want    cell
	without map[int]string // why it does not apply in a place
	// ci makes and judges what a builder in this state releases; nil for the usual.
	ci func() (cell, bool)
}

// fourPlaces is a machine that judges itself in each of the places.
type fourPlaces struct {
	agent
	toplevel string
	accepted string // of the configuration
	private  string // the key of its publisher
}

func startFourPlaces(t *testing.T) *fourPlaces {
	t.Helper()
	p := &fourPlaces{agent: startAgent(t, ""), accepted: tag}
	p.toplevel = p.Runner().Systems["testhost"].Toplevel
	p.Run("mkdir", "-p", "/opt/build")
	p.Push(filepath.Join("..", "..", "..", "hack"), scripts)
	var public string
	p.private, public = testhost.SigningKey(t)
	p.write("/etc/ec-verify/ci.pub", public)
	p.sign(releases+"/"+tag, p.private)
	p.configure()
	p.bootMenu(p.toplevel)
	// The units as they are installed, but for the form of what they print.
	for _, unit := range []string{"ec-verify", "ec-verify-boot"} {
		start := p.Run("sh", "-c", "systemctl cat "+unit+".service | sed -n 's/^ExecStart=//p' | tail -n 1")
		p.dropIn(unit+".service", "json", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\nExecStart="+start+" --output json\nStandardOutput=append:/run/"+unit+".json")
	}
	return p
}

func (p *fourPlaces) configure() {
	p.t.Helper()
	p.write("/etc/ec-verify/config.json", fmt.Sprintf(`{"release": {"source": [%q], "accept": [%q]},
		"trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]}}`, releases, p.accepted))
}

// bootMenu lays out /boot as systemd-boot-builder does, for one system.
func (p *fourPlaces) bootMenu(system string) {
	p.t.Helper()
	p.Run("sh", "-euc", `
		rm -rf /boot/loader /boot/EFI; mkdir -p /boot/loader/entries /boot/EFI/nixos
		for part in kernel initrd; do
			from=$(realpath $1/$part)
			name=$(echo "${from#/nix/store/}" | tr / -).efi
			cp --no-preserve=mode $from /boot/EFI/nixos/$name
			eval $part=/EFI/nixos/$name
		done
		printf '%s\n' 'title NixOS' 'sort-key nixos' 'version Generation 1 NixOS' "linux $kernel" "initrd $initrd" \
			"options init=$1/init $(cat $1/kernel-params)" >/boot/loader/entries/nixos-generation-1.conf
		printf '%s\n' 'timeout 5' 'default nixos-generation-1.conf' >/boot/loader/loader.conf`, "sh", system)
}

// medium lays out /iso as iso-image.nix does. In the menu of its file system for UEFI, old
// is by.
func (p *fourPlaces) medium(old, by string) {
	p.t.Helper()
	tree, efi := p.t.TempDir(), p.t.TempDir()
	for name, file := range bootlayouts.ISO(bootlayouts.System{
		Toplevel: p.toplevel, Params: p.Run("cat", p.toplevel+"/kernel-params"),
		Kernel: p.Run("readlink", "-f", p.toplevel+"/kernel"), Initrd: p.Run("readlink", "-f", p.toplevel+"/initrd"),
	}) {
		text := file.Text
		if file.From != "" {
			data, err := os.ReadFile(p.Path(file.From))
			if err != nil {
				p.t.Fatal(err)
			}
			text = string(data)
		}
		writeBelow(p.t, tree, name, text)
		if name == "EFI/BOOT/grub.cfg" {
			if old != "" {
				text = strings.ReplaceAll(text, old, by)
			}
			writeBelow(p.t, efi, name, text)
		}
	}
	writeBelow(p.t, efi, "EFI/BOOT/BOOTX64.EFI", "MZ, GRUB")
	imagetest.FAT(p.t, efi, filepath.Join(tree, "boot/efi.img"), 12, 1<<20)
	p.Push(tree, "/iso")
}

func writeBelow(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// firstOf is the cell of a report.
func firstOf(a answer) cell {
	for _, f := range a.Findings {
		if f.Class != "notice" && f.ConsequenceOf == "" {
			return cell{f.Cause, a.code}
		}
	}
	return cell{"", a.code}
}

// byUnit starts a unit and returns how it has judged.
func (p *fourPlaces) byUnit(unit string) cell {
	p.t.Helper()
	p.Run("sh", "-c", "systemctl stop "+unit+"; rm -f /run/"+unit+".json")
	p.Exec(context.Background(), "systemctl", "reset-failed", unit)
	p.Exec(context.Background(), "systemctl", "start", unit)
	var a answer
	// What the unit does afterwards may print as well.
	if err := json.NewDecoder(strings.NewReader(p.Run("cat", "/run/"+unit+".json"))).Decode(&a); err != nil {
		p.t.Fatalf("%s: %v\n%s", unit, err, p.Run("journalctl", "-u", unit, "--no-pager", "-n", "20"))
	}
	a.code = int(p.number(unit, "ExecMainStatus"))
	return firstOf(a)
}

// byCandidate judges the system that runs as one that does not, and holds what would be
// switched to to the same.
func (p *fourPlaces) byCandidate() cell {
	p.t.Helper()
	system := p.Run("readlink", "/run/current-system")
	c := firstOf(p.report(program, "candidate", system, "--output", "json"))
	stdout, stderr, code := p.Exec(context.Background(), program, "switch", system, "--dry-run", "--output", "json")
	var s switched
	if err := json.NewDecoder(strings.NewReader(stdout)).Decode(&s); err != nil {
		p.t.Fatalf("switch: exit %d %s", code, stderr)
	}
	s.Report.code = code
	if got := firstOf(s.Report); got != c {
		p.t.Errorf("switch --dry-run: %s, and candidate: %s", got, c)
	}
	return c
}

// byCI has the machine build and write a release, and compares it with the accepted one
// as CI does; made is false where there is none.
func (p *fourPlaces) byCI(flake string) (c cell, made bool) {
	p.t.Helper()
	p.Run("rm", "-rf", "/root/b", "/root/report")
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	_, stderr, code := p.Exec(ctx, "env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", flake+"#testhost",
		"--out", "/root/b", "--tag", tag, "--best-before", "87600h")
	if code != 0 {
		if code != 4 || p.Run("sh", "-c", "ls -A /root/b 2>/dev/null | wc -l") != "0" {
			p.t.Errorf("manifest create: exit %d, and it left something: %s", code, stderr)
		}
		return cell{}, false
	}
	out, stderr, code := p.Exec(ctx, "env", "EC_VERIFY="+program, scripts+"/gate", releases+"/"+tag, "/root/b", "/root/report")
	var compared struct {
		Differences []struct {
			Cause   string
			Follows bool
		}
	}
	if code != 0 {
		if err := json.Unmarshal([]byte(p.Run("cat", "/root/report/compare.json")), &compared); err != nil {
			p.t.Fatalf("gate: exit %d, %v\n%s%s", code, err, out, stderr)
		}
	}
	for _, d := range compared.Differences {
		if !d.Follows && d.Cause != "" {
			return cell{d.Cause, code}, true
		}
	}
	return cell{"", code}, true
}

// byPublish is how CI takes a release that is to be published.
func (p *fourPlaces) byPublish() (cell, bool) {
	p.t.Helper()
	stdout, stderr, code := p.Exec(context.Background(), program, "release", "verify", releases+"/"+tag, "--key", "/etc/ec-verify/ci.pub", "--output", "json")
	var refused struct{ Verdict, Reason string }
	if err := json.Unmarshal([]byte(stdout), &refused); err != nil || refused.Verdict != "untrusted" {
		p.t.Errorf("release verify: exit %d: %s%s", code, stdout, stderr)
	}
	return cell{"release-untrusted", code}, true
}

// classes are all of them.
func (p *fourPlaces) classes(t *testing.T) []class {
	path := p.path("program-01-1.1")
	file := path + "/bin/program-01"
	shared := p.path("unpacked-1")
	kernel := "/boot" + p.Run("sed", "-n", "s/^linux //p", "/boot/loader/entries/nixos-generation-1.conf")
	initrd := "/boot" + p.Run("sed", "-n", "s/^initrd //p", "/boot/loader/entries/nixos-generation-1.conf")
	const entry = "/boot/loader/entries/nixos-generation-1.conf"
	source := p.Runner().Source
	other := p.Runner().Systems["testhost-unreproducible"].Toplevel
	flip := func(name string, at int64) func() { return func() { p.FlipByte(name, at) } }
	shell := func(script string, args ...string) func() {
		return func() { p.Run(append([]string{"sh", "-euc", script, "sh"}, args...)...) }
	}
	sql := func(statement string) func() { return func() { p.SQL(statement) } }
	anew := func() {
		p.Run("sh", "-euc", "rm -rf /var/lib/ec-verify; rm -rf "+releases+"; cp -a /root/kept "+releases)
	}
	p.Run("cp", "-a", releases, "/root/kept")
	hash := p.SQL("select hash from ValidPaths where path = '" + path + "'")
	ciWithout := map[int]string{inCI: noRelease}
	boot := map[int]string{inCI: noMachine, atCandidate: notRunning}
	const line = "/run/ec-verify-testhost/cmdline"
	noMedium := func() { p.Run("rm", "-r", "/iso") }
	return []class{
		{name: "nothing", do: func() {}, undo: func() {}, want: cell{"", 0}},
		{name: "a byte of a file", do: flip(file, 3), undo: flip(file, 3), want: cell{"disk-altered", 1}, without: ciWithout},
		{
			name: "a byte of a file, and its hash in Nix's database",
			do:   func() { p.FlipByte(file, 3); p.rehash(path) },
			undo: func() { p.FlipByte(file, 3); p.rehash(path) },
			want: cell{"replaced-unexplained", 1},
		},
		{name: "a path is missing", do: shell(`mv "$1" /root/away`, shared), undo: shell(`mv /root/away "$1"`, shared), want: cell{"missing", 1}, without: ciWithout},
		{
			name: "Nix's database has another hash", do: sql("update ValidPaths set hash='sha256:" + strings.Repeat("0", 64) + "' where path='" + path + "'"),
			undo: sql("update ValidPaths set hash='" + hash + "' where path='" + path + "'"), want: cell{"database-altered", 1}, without: ciWithout,
		},
		{
			name: "an extra path, by a reference in Nix's database",
			do: func() {
				p.Run("sh", "-euc", "echo x >/tmp/more; nix-store --add /tmp/more")
				p.SQL("insert into Refs select a.id, b.id from ValidPaths a, ValidPaths b where a.path='" + p.path("system-units") + "' and b.path like '%-more'")
			},
			undo: sql("delete from Refs where reference=(select id from ValidPaths where path like '%-more')"),
			want: cell{"database-altered", 1},
		},
		{name: "a set-user-ID bit", do: shell(`chmod 4555 "$1"`, file), undo: shell(`chmod 555 "$1"`, file), want: cell{"permissions-altered", 1}, without: map[int]string{inCI: notInNAR}},
		{name: "another owner", do: shell(`chown nobody "$1"`, file), undo: shell(`chown root "$1"; chmod 555 "$1"`, file), want: cell{"permissions-altered", 1}, without: map[int]string{inCI: notInNAR}},
		{
			name: "a mount over a path", do: shell(`cp -a "$1" /root/copy; mount --bind /root/copy "$1"`, path),
			undo: func() { p.Run("umount", path) }, want: cell{"mounted-over", 4}, without: map[int]string{inCI: sameBytes},
		},
		{
			name: "the embedded flake", do: shell(`cp -p "$1" /root/was; echo "# changed" >>"$1"`, source+"/flake.nix"),
			undo: shell(`cp -p /root/was "$1"`, source+"/flake.nix"), want: cell{"source-altered", 1},
		},
		{
			name: "its lock file", do: shell(`cp -p "$1" /root/was; echo >>"$1"`, source+"/flake.lock"),
			undo: shell(`cp -p /root/was "$1"`, source+"/flake.lock"), want: cell{"lock-altered", 1},
		},
		{
			name: "the system of no accepted release", do: func() { p.Activate(other, other); p.bootMenu(other) },
			undo: func() { p.Activate(p.toplevel, p.toplevel); p.bootMenu(p.toplevel) }, want: cell{"other-system", 1}, without: map[int]string{inCI: byName},
		},
		{
			name: "an older release than one accepted before",
			do: func() {
				// The same system, in a release that came later, was accepted here.
				const later = "boot-v2026.03.01"
				p.Run("sh", "-euc", `rm -rf /var/lib/ec-verify; cp -r $1/$2 $1/$3; sed -i -e "s/$2/$3/" -e 's/"createdAt": "2026-09-21/"createdAt": "2026-09-22/' $1/$3/release.json`, "sh", releases, tag, later)
				p.signAnew(later)
				p.accepted = later
				p.configure()
				if c := p.byUnit("ec-verify"); c != (cell{"", 0}) {
					t.Fatalf("the later release: %s", c)
				}
				p.Run("rm", "-rf", releases+"/"+later, "/var/lib/ec-verify/releases")
				p.accepted = "latest"
				p.configure()
			},
			undo: func() { anew(); p.accepted = tag; p.configure() },
			want: cell{"release-rolled-back", 3}, without: map[int]string{inCI: noOrder},
		},
		{
			name: "a revoked release",
			do: func() {
				p.write("/root/own.key", p.private)
				p.Run(program, "release", "revoke", tag, "--reason", "its sshd lets everybody in", "--out", releases+"/revocations", "--key", "/root/own.key")
			},
			undo: anew, want: cell{"release-revoked", 1}, without: map[int]string{inCI: lateWord},
		},
		{
			name: "an unsigned release", do: func() { p.Run("rm", "-rf", "/var/lib/ec-verify", releases+"/"+tag+"/"+release.BundleName) },
			undo: anew, want: cell{"release-untrusted", 3}, ci: p.byPublish,
		},
		{
			name: "a release that another key has signed",
			do: func() {
				key, _ := testhost.SigningKey(t)
				p.Run("rm", "-rf", "/var/lib/ec-verify")
				p.sign(releases+"/"+tag, key)
			},
			undo: anew, want: cell{"release-untrusted", 3}, ci: p.byPublish,
		},
		{name: "a byte of the kernel in /boot", do: flip(kernel, 100), undo: flip(kernel, 100), want: cell{"boot-altered", 1}, without: boot},
		{name: "a byte of the initrd in /boot", do: flip(initrd, 10), undo: flip(initrd, 10), want: cell{"boot-altered", 1}, without: boot},
		{
			name: "an extra option in the entry", do: shell(`sed -i 's/^options.*/& rd.break/' "$1"`, entry),
			undo: func() { p.bootMenu(p.toplevel) }, want: cell{"boot-altered", 1}, without: boot,
		},
		{
			name: "another `init=` in the entry", do: shell(`sed -i 's,init=[^ ]*,init=/evil/init,' "$1"`, entry),
			undo: func() { p.bootMenu(p.toplevel) }, want: cell{"other-entry", 1}, without: boot,
		},
		{
			name: "an entry that leads to the system of no accepted release", do: func() { p.bootMenu(other) },
			undo: func() { p.bootMenu(p.toplevel) }, want: cell{"other-entry", 1}, without: boot,
		},
		{
			name: "the system profile leads to the system of no accepted release",
			do:   shell(`nix-env -p /nix/var/nix/profiles/system --set "$1"`, other),
			undo: shell(`nix-env -p /nix/var/nix/profiles/system --set "$1"`, p.toplevel),
			want: cell{"other-profile", 1}, without: map[int]string{inCI: noMachine, atCandidate: notRunning},
		},
		{
			name: "an option more in the command line of the kernel that runs", do: shell(`cp /proc/cmdline /root/line; echo "$(cat /root/line) rd.break" >` + line),
			undo: shell("cat /root/line >" + line), want: cell{"command-line-altered", 1}, without: boot,
		},
		{name: "an ISO's medium, as it is", do: func() { p.medium("", "") }, undo: noMedium, want: cell{"", 0}, without: boot},
		{
			name: "a byte of the kernel on the medium", do: func() { p.medium("", ""); p.FlipByte("/iso/boot"+p.Run("readlink", "-f", p.toplevel+"/kernel"), 100) },
			undo: noMedium, want: cell{"boot-altered", 1}, without: boot,
		},
		{
			name: "another `init=` in the medium's menu", do: func() {
				p.medium("", "")
				p.Run("sed", "-i", "s,init=[^ ]*,init=/evil/init,", "/iso/isolinux/isolinux.cfg")
			},
			undo: noMedium, want: cell{"other-entry", 1}, without: boot,
		},
		{
			name: "another `init=` in the menu of the medium's `boot/efi.img`", do: func() { p.medium("init="+p.toplevel+"/init", "init=/evil/init") },
			undo: noMedium, want: cell{"other-entry", 1}, without: boot,
		},
	}
}

// signAnew writes the checksums of a release again and signs them with the machine's key.
func (p *fourPlaces) signAnew(name string) {
	p.t.Helper()
	if err := release.WriteSums(p.t.Context(), p.Path(releases+"/"+name)); err != nil {
		p.t.Fatal(err)
	}
	p.sign(releases+"/"+name, p.private)
}

// TestFourPlaces: each class of tampering is given the same cause and the same exit code
// by what CI runs before a release goes out, by candidate (and switch), by the unit at
// boot and by the audit, or does not apply there, which is said.
func TestFourPlaces(t *testing.T) {
	t.Parallel()
	p := startFourPlaces(t)
	var rows []string
	var reasons []string
	note := func(reason string) string {
		i := slices.Index(reasons, reason)
		if i < 0 {
			i, reasons = len(reasons), append(reasons, reason)
		}
		return fmt.Sprintf("– (%d)", i+1)
	}
	for _, c := range p.classes(t) {
		t.Run(c.name, func(t *testing.T) {
			outer := p.t
			p.t = t
			defer func() { p.t = outer }()
			c.do()
			defer c.undo()
			row := []string{c.name}
			for place := range places {
				if reason := c.without[place]; reason != "" {
					row = append(row, note(reason))
					if place != inCI || reason != noRelease {
						continue
					}
					if got, made := p.byCI("/etc/every-channel/flake"); made {
						t.Errorf("a release was made: %s", got)
					}
					continue
				}
				var got cell
				switch place {
				case inCI:
					var made bool
					if c.ci != nil {
						got, made = c.ci()
					} else {
						got, made = p.byCI("/etc/every-channel/flake")
					}
					if !made {
						t.Error("no release was made")
					}
				case atCandidate:
					got = p.byCandidate()
				case atBoot:
					got = p.byUnit("ec-verify-boot")
				case atAudit:
					got = p.byUnit("ec-verify")
				}
				if got != c.want {
					t.Errorf("place %d: got %s, want %s", place, got, c.want)
				}
				row = append(row, got.String())
			}
			rows = append(rows, "| "+strings.Join(row, " | ")+" |")
		})
	}
	if t.Failed() {
		t.Log("\n" + strings.Join(rows, "\n"))
		return
	}
	section := fourPlacesText(rows, reasons)
	const page = "../../../docs/gate.md"
	text, err := os.ReadFile(page)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	before, after := splitSection(string(text))
	if *update {
		write(t, page, before+section+after)
		return
	}
	if got := strings.TrimSuffix(strings.TrimPrefix(string(text), before), after); got != section {
		t.Errorf("docs/gate.md has another table; run this test with -update\n%s", section)
	}
}

const fourPlacesHeading = "## One judgement in four places"

// splitSection returns what is before and after the section of a page.
func splitSection(text string) (before, after string) {
	before, rest, found := strings.Cut(text, fourPlacesHeading+"\n")
	if !found {
		return strings.TrimRight(text, "\n") + "\n\n", ""
	}
	if _, next, more := strings.Cut(rest, "\n## "); more {
		after = "\n## " + next
	}
	return before, after
}

func fourPlacesText(rows, reasons []string) string {
	var b strings.Builder
	b.WriteString(fourPlacesHeading + `

The same manifest, causes and exit codes apply wherever a system is judged. A test writes
this table (` + "`TestFourPlaces`" + `, with ` + "`-update`" + `). It alters a machine in each of these ways and
judges it in each place. CI stands for the steps before a release is published: ` + "`manifest\ncreate`, `hack/gate`" + ` with a good build, and the check before publishing. The candidate column
is ` + "`ec-verify candidate`" + `, and ` + "`ec-verify switch`" + ` must agree with it. The boot unit is
` + "`ec-verify-boot.service`" + `, and the audit is ` + "`ec-verify.service`" + `. A cell has the cause of the
first finding, and the exit code.

| what was altered | CI | candidate | boot unit | audit |
|---|---|---|---|---|
`)
	b.WriteString(strings.ReplaceAll(strings.Join(rows, "\n"), "``, 0", "verified, 0") + "\n\nCells with a number do not apply:\n\n")
	for i, reason := range reasons {
		fmt.Fprintf(&b, "%d. %s\n", i+1, reason)
	}
	return b.String()
}
