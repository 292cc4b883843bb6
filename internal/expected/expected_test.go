package expected

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

func object(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

// disk is a file tree with a store.
type disk struct {
	t    *testing.T
	root string
}

func (d disk) write(name, text string) {
	d.t.Helper()
	name = filepath.Join(d.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) link(name, target string) {
	d.t.Helper()
	name = filepath.Join(d.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) read(toplevel closure.StorePath, paths ...closure.StorePath) (*Machine, error) {
	d.t.Helper()
	store, err := nixstore.OpenStore(d.root, closure.DefaultStoreDir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer store.Close()
	var infos []closure.PathInfo
	for _, p := range paths {
		infos = append(infos, closure.PathInfo{Path: p})
	}
	return Read(d.t.Context(), store, "host", toplevel, infos)
}

func TestRead(t *testing.T) {
	d := disk{t, t.TempDir()}
	top, tree, units, unit, users := object("a", "nixos-system"), string(object("b", "etc"))+"/etc", string(object("c", "system-units")), string(object("d", "unit")), object("f", "users-groups.json")
	lingering := object("g", "lingering-users")
	d.write(string(top)+"/kernel-params", "quiet loglevel=4\n")
	d.link(string(top)+"/etc", tree)
	d.write(unit+"/a.service", "[Service]\n")
	d.write(unit+"/a.service.d/x.conf", "[Service]\n")
	d.link(units+"/a.service", unit+"/a.service")
	d.link(units+"/a.service.d", unit+"/a.service.d")
	d.link(units+"/multi-user.target.wants/a.service", "../a.service")
	d.link(units+"/off.service", "/dev/null")
	d.write(unit+"/nftables.service", "[Service]\nExecStart="+unit+"/rules\n")
	d.write(unit+"/rules", "#! /bin/nft -f\ntable inet t {\n set s { type inet_service; }\n chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; tcp dport ssh accept; } }\n")
	d.link(units+"/nftables.service", unit+"/nftables.service")
	d.link(units+"/multi-user.target.wants/nftables.service", "../nftables.service")
	d.write(string(lingering), "c\n")
	d.link(units+"/gone.service", unit+"/gone")
	d.link(tree+"/systemd/system", units)
	d.write(tree+"/fstab", "# who reads this\n/dev/sda1 / ext4 rw 0 1\n\n")
	d.write(tree+"/sysctl.d/60-nixos.conf", "kernel.kptr_restrict=1\n")
	d.write(tree+"/modprobe.d/nixos.conf", "blacklist evbug\n")
	d.write(tree+"/modprobe.d/README", "no\n")
	d.link(tree+"/sudoers", unit+"/a.service")
	d.write(tree+"/sudoers.mode", "440\n")
	d.write(tree+"/sudoers.uid", "+0\n")
	d.link(tree+"/mtab", "/proc/mounts")
	d.write(tree+"/mtab.mode", "direct-symlink\n")
	d.write(string(users), `{"mutableUsers":false,"users":[{"name":"b","uid":null,"password":""},{"name":"a","uid":7,"group":"wheel","shell":"/bin/sh","hashedPassword":"$6$secret"}],"groups":[{"name":"wheel","gid":1,"members":["b","a"]}]}`)
	m, err := d.read(top, users, lingering, object("d", "unit"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/machine.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), string(text)); diff != "" {
		t.Error(diff)
	}
	var asset, again bytes.Buffer
	if err := m.Write(&asset); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(&again); err != nil || !bytes.Equal(asset.Bytes(), again.Bytes()) {
		t.Errorf("written twice, it has other bytes: %v", err)
	}
	got, err := Decode(bytes.NewReader(asset.Bytes()), "host")
	if diff := cmp.Diff(m, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := Decode(&asset, "other"); err == nil {
		t.Error("it is taken for another configuration's")
	}
}

// Userborn's file of users says the same, but for whether others may be added.
func TestReadUserborn(t *testing.T) {
	d := disk{t, t.TempDir()}
	top, file := object("a", "nixos-system"), object("f", "userborn.json")
	d.write(string(top)+"/init", "")
	d.write(string(file), `{"groups":[{"name":"g","gid":1,"members":["a"]}],"users":[{"name":"a","uid":7,"group":"g","home":"/h","shell":"/bin/sh","isNormal":true,"hashedPassword":"!"}]}`)
	m, err := d.read(top, file)
	if err != nil {
		t.Fatal(err)
	}
	if u := m.Users.User("a"); u == nil || *u.Number != 7 || !m.Users.Mutable || m.Users.Group("g") == nil {
		t.Errorf("%+v", m.Users)
	}
}

// A system that has nothing of this is one, too.
func TestReadNothing(t *testing.T) {
	d := disk{t, t.TempDir()}
	top := object("a", "nixos-system")
	d.write(string(top)+"/init", "")
	m, err := d.read(top)
	if err != nil || m.EtcTree != "" || m.Users != nil {
		t.Errorf("%+v, %v", m, err)
	}
	if err := m.Write(new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
}

func TestReadRefuses(t *testing.T) {
	top, etc, users := object("a", "nixos-system"), string(object("b", "etc")), object("f", "users-groups.json")
	for name, do := range map[string]func(d disk){
		"an etc that is not there": func(d disk) { d.link(string(top)+"/etc", string(object("e", "etc"))) },
		"an etc outside the store": func(d disk) { d.link(string(top)+"/etc", "/etc"); d.write("/etc/x", "") },
		"users that are no JSON":   func(d disk) { d.write(string(users), "{") },
		"a mode that is none":      func(d disk) { d.write(etc+"/x", ""); d.write(etc+"/x.mode", "rw"); d.link(string(top)+"/etc", etc) },
		"a copy of nothing": func(d disk) {
			d.link(etc+"/x", "/nix/y")
			d.write(etc+"/x.mode", "444")
			d.link(string(top)+"/etc", etc)
		},
		"parameters of many megabytes": func(d disk) { d.write(string(top)+"/kernel-params", strings.Repeat("x", 2<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := disk{t, t.TempDir()}
			d.write(string(top)+"/init", "")
			do(d)
			if m, err := d.read(top, users); err == nil {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	golden, err := os.ReadFile("testdata/machine.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new string }{
		{`"schemaVersion": 1`, `"schemaVersion": 2`},
		{`"kind": "ec-machine"`, `"kind": "ec-closure"`},
		{`"path": "mtab"`, `"path": "../mtab"`},
		{`"path": "mtab"`, `"path": "a"`},
		{`"mode": "0440"`, `"mode": "440"`},
		{`"target": "/dev/null"`, `"target": "null"`},
		{`"name": "b"`, `"name": "A"`},
		{`"mutable": false`, `"mutable": false, "more": 1`},
		{`"backend": "nftables"`, `"backend": "other"`},
		{`"family": "inet"`, `"family": ""`},
		{"  ", " "},
	} {
		text := strings.Replace(string(golden), test.old, test.new, 1)
		if m, err := decode([]byte(text)); err == nil || text == string(golden) {
			t.Errorf("%s for %s: %+v", test.new, test.old, m)
		}
	}
	// What was written before there were these is read as it is.
	before, _, _ := strings.Cut(string(golden), ",\n  \"lingering\"")
	if m, err := decode([]byte(before + "\n}\n")); err != nil || m.Firewall != nil || m.Lingering != nil {
		t.Errorf("of a program before this one: %+v, %v", m, err)
	}
	var bomb bytes.Buffer
	z, err := zstd.NewWriter(&bomb, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	for range MaxSize/window + 1 {
		z.Write(make([]byte, window))
	}
	z.Close()
	if m, err := Decode(&bomb, "host"); err == nil {
		t.Errorf("a bomb: %+v", m)
	}
}

// An asset has one form: what is taken is what is written.
func FuzzDecode(f *testing.F) {
	golden, err := os.ReadFile("testdata/machine.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"schemaVersion":1,"kind":"ec-machine"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		var asset bytes.Buffer
		if err := m.Write(&asset); err != nil {
			t.Fatalf("%q is taken and not written: %v", data, err)
		}
		again, err := Decode(&asset, m.Configuration)
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}
