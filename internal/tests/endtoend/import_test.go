package endtoend

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSwitchImports: the system comes from places of every kind, of which none is
// trusted; from one that alters anything, nothing comes.
func TestSwitchImports(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	program4 := g.Run("sh", "-euc", "nix-store -qR "+g.next+" | grep -e -program-04-1.3$")
	// The peers, and then a store without the system.
	g.Run("sh", "-euc", `
		cd /srv; mkdir -p tree/nix/store flat
		nix-store -qR `+g.old+` | sort >old; nix-store -qR `+g.next+` | sort | comm -13 old - >lacking
		nix copy --to 'file:///srv/cache?compression=zstd' --no-check-sigs `+g.next+`
		nix copy --to 'local?root=/srv/peer' --no-check-sigs `+g.next+`
		cp -a $(cat lacking) tree/nix/store; cp -a $(cat lacking) flat
		rm /var/lib/ec-verify-testhost/roots/testhost-other
		nix-env -p /nix/var/nix/profiles/system --delete-generations old
		nix-store --gc >/tmp/gc.log
		[ ! -e `+g.next+` ]`)
	// A binary cache on the web, with a certificate of a private authority.
	g.Run("sh", "-euc", `
		mkdir -p /srv/tls; cd /srv/tls
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 3650
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=cache
		echo subjectAltName=IP:127.0.0.1 >names
		openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile names -out tls.pem
		echo 'ssl-cert-file = /srv/tls/ca.pem' >>/etc/nix/nix.conf
		cat >nginx.conf <<-END
			daemon off; error_log stderr;
			events {}
			http { access_log off; server {
				listen 127.0.0.1:8443 ssl; ssl_certificate /srv/tls/tls.pem; ssl_certificate_key /srv/tls/tls.key; root /srv/cache;
			} }
		END
		systemctl restart nix-daemon`)
	const web = "https://127.0.0.1:8443"
	const lacking = "nothing was imported"
	base := filepath.Base(program4)
	for _, test := range []struct {
		name, from, script, want string // want is in the error; "" for a switch that goes through
	}{
		{"a binary cache", "/srv/cache", "", ""},
		{"a binary cache by its URL", "file:///srv/cache", "", ""},
		{"a copy of a store", "/srv/tree", "", ""},
		{"a directory of paths", "/srv/flat", "", ""},
		{"another store, as over ssh", "ssh-ng://localhost?remote-store=local%3Froot%3D/srv/peer", "", ""},
		{"an altered path in a copy", "/srv/tree", "echo x >>/srv/tree" + program4 + "/bin/program-04", lacking},
		{"an altered path of the same size", "/srv/flat", "sed -i s/1.3/1.4/ /srv/flat/" + base + "/bin/program-04", lacking},
		{"a path that is missing", "/srv/flat", "rm -r /srv/flat/" + base, "/srv/flat does not have " + program4},
		{"an endless file", "/srv/flat", "truncate -s 1T /srv/flat/" + base + "/bin/program-04", "larger than"},
		{"an extra file", "/srv/flat", "touch /srv/flat/" + base + "/extra", lacking},
		{"an altered NAR, as its narinfo says", "/srv/cache", alteredNAR(program4, "sed s/program-04/program-05/"), lacking},
		{"a truncated NAR", "/srv/cache", alteredNAR(program4, "head -c 400"), ""},
		{"an endless NAR", "/srv/cache", alteredNAR(program4, "cat") + "; truncate -s 1T $nar", "larger than"},
		{"an endless narinfo", "/srv/cache", "truncate -s 1T /srv/cache/" + base[:32] + ".narinfo", "ask file:///srv/cache which paths it has: "},
		{"a binary cache on the web", web, "", ""},
		{"an altered NAR on the web", web, alteredNAR(program4, "sed s/program-04/program-05/"), lacking},
		{"a truncated NAR on the web", web, alteredNAR(program4, "head -c 400"), ""},
		{"an endless NAR on the web", web, alteredNAR(program4, "cat") + "; truncate -s 1T $nar", "larger than"},
		{"a path that is missing on the web", web, "rm /srv/cache/" + base[:32] + ".narinfo", web + " does not have " + program4},
		{"a certificate of another authority", web, "cd /srv/tls; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.pem -subj /CN=evil -addext subjectAltName=IP:127.0.0.1 -days 9", "ask " + web + " which paths it has: "},
		{"an altered path, as over ssh", "ssh-ng://localhost?remote-store=local%3Froot%3D/srv/peer", "echo x >>/srv/peer" + program4 + "/bin/program-04", lacking},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.layered()
			defer g.restored()
			before := ""
			if test.script != "" {
				g.Run("sh", "-euc", test.script)
				before = g.NixState()
			}
			if test.from == web {
				g.web("nginx.conf")
			}
			g.imports(t, test.from, test.want, test.script == "", before)
		})
	}
	t.Run("the cache on the web goes away in the midst of it, and comes back", func(t *testing.T) {
		g.layered()
		defer g.restored()
		// At a byte a second nothing is whole before the server ends.
		g.Run("sh", "-euc", `cd /srv/tls; sed 's|root /srv/cache;|& location /nar/ { limit_rate 1; }|' nginx.conf >slow.conf; grep limit_rate slow.conf`)
		g.web("slow.conf")
		g.Run("systemd-run", "--quiet", "--unit=cut", "--collect", "sh", "-c",
			`until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q ' /srv/cache/nar/'; do sleep 0.05; done; systemctl kill --signal=KILL web`)
		g.imports(t, web, "from "+web, false, g.NixState())
		g.web("nginx.conf")
		g.imports(t, web, "", true, "")
	})
	t.Run("a path more than the release has", func(t *testing.T) {
		g.layered()
		defer g.restored()
		extra := g.Run("sh", "-euc", `
			echo extra >/tmp/extra; extra=$(nix-store --store 'local?root=/srv/peer' --add /tmp/extra)
			nix copy --from 'local?root=/srv/peer' --to file:///srv/cache --no-check-sigs $extra
			sed -i "s|^References:.*|& $(basename $extra)|" /srv/cache/`+base[:32]+`.narinfo; echo $extra`)
		g.imports(t, "/srv/cache", "there it refers to "+extra+", which the release does not have; nothing was imported", false, g.NixState())
	})
	t.Run("no place", func(t *testing.T) {
		before := g.NixState()
		for _, args := range [][]string{{}, {"--dry-run"}} {
			stdout, stderr, code := g.Exec(t.Context(), append([]string{program, "switch", otherTag}, args...)...)
			if code != 4 || stdout != "" || stderr != "ec-verify: "+g.next+" is not in the store yet: fetch it with --from STORE\n" {
				t.Errorf("%q: exit %d\n%s\n%s", args, code, stdout, stderr)
			}
		}
		if after := g.NixState(); withoutTimes(after) != withoutTimes(before) {
			t.Error("something was written")
		}
	})
	t.Run("a dry run", func(t *testing.T) {
		g.layered()
		defer g.restored()
		g.Run("touch", "/run/before")
		const written = "find / -xdev \\( -path /proc -o -path /sys -o -path /var/log -o -path /run/before -o -path /run/info -o -path /srv \\) -prune -o -newer /run/before ! -type d -print; find /root /tmp /var/lib | grep -v systemd"
		names := g.Run("sh", "-c", written)
		before := g.NixState()
		s := g.run(otherTag, "--dry-run", "--from", "/srv/cache")
		lacking := strings.Fields(g.Run("cat", "/srv/lacking"))
		if s.code != 4 || s.Verdict != "inconclusive" || s.Imports == nil || s.Imports.Paths != len(lacking) || s.Imports.Size == 0 || s.Imports.Here == 0 ||
			s.Imports.From != "file:///srv/cache" || len(s.Changes) == 0 || !strings.Contains(s.Detail, " are not here but at file:///srv/cache; without --dry-run they are imported") {
			t.Errorf("%+v", s)
		}
		text, _, _ := g.Exec(t.Context(), program, "switch", otherTag, "--dry-run", "--from", "/srv/cache")
		if !strings.Contains(text, "  program: ") || !strings.Contains(text, "not judged, because") || strings.Contains(text, "could not be checked") {
			t.Error(text)
		}
		// What is all here is judged.
		if s := g.run(g.old, "--dry-run", "--from", "/srv/cache"); s.code != 0 || s.Verdict != "verified" || s.Imports == nil || s.Imports.Paths != 0 {
			t.Errorf("%+v", s)
		}
		info := "/srv/cache/" + base[:32] + ".narinfo"
		g.Run("sh", "-euc", `cp $1 /run/info; sed -i /^References/d $1; { printf References:; seq -f ' `+strings.Repeat("a", 26)+`%06.0f-x' 300000 | tr -d '\n'; echo; } >>$1`, "sh", info)
		if _, stderr, code := g.Exec(t.Context(), program, "switch", otherTag, "--dry-run", "--from", "/srv/cache"); code != 4 || !strings.Contains(stderr, "000001-x, which the release does not have") {
			t.Errorf("exit %d: %s", code, stderr)
		}
		g.Run("sh", "-euc", `cp /run/info $1; sed -i "s|^References:.*|& $2|" $1`, "sh", info, base)
		if s := g.run(otherTag, "--dry-run", "--from", "/srv/cache"); s.code != 4 || s.Imports == nil || s.Imports.Paths != len(lacking) {
			t.Errorf("a path that says it refers to itself: %+v", s)
		}
		g.Run("rm", "/srv/cache/"+base[:32]+".narinfo")
		_, stderr, code := g.Exec(t.Context(), program, "switch", otherTag, "--dry-run", "--from", "/srv/cache")
		if code != 4 || !strings.Contains(stderr, "file:///srv/cache does not have "+program4) {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if g.NixState() != before {
			t.Error("something was registered, or left in the store")
		}
		if diff := cmp.Diff(names, g.Run("sh", "-c", written)); diff != "" {
			t.Errorf("written: %s", diff)
		}
	})
}

// web has the cache served on the web.
func (g *gated) web(conf string) {
	g.t.Helper()
	g.until("the server before is gone", "! systemctl is-active web")
	g.Run("systemd-run", "--quiet", "--unit=web", "--collect", "nginx", "-c", "/srv/tls/"+conf)
	g.until("the cache answers", "openssl s_client -connect 127.0.0.1:8443 </dev/null")
}

// layered lays a layer over the places that the system can come from, for what a case
// does with them.
func (g *gated) layered() {
	g.t.Helper()
	g.Run("sh", "-euc", `
		mkdir -p /run/layer/upper /run/layer/work
		mount -t overlay overlay -o lowerdir=/srv,upperdir=/run/layer/upper,workdir=/run/layer/work /srv`)
}

// restored has the machine be without the system again, and the places as they were.
func (g *gated) restored() {
	g.t.Helper()
	g.Run("sh", "-euc", `
		systemctl stop web 2>/dev/null || true
		umount -l /srv; rm -rf /run/layer /run/peer-is-silent /var/lib/ec-verify /root/.cache
		[ -e `+g.next+` ] || exit 0
		nix-env -p /nix/var/nix/profiles/system --set `+g.old+`; ln -sfn `+g.old+` /run/current-system
		nix-env -p /nix/var/nix/profiles/system --delete-generations old; nix-store --gc >/tmp/gc.log
		[ ! -e `+g.next+` ]`)
}

// imports switches to what is fetched from a place: it goes through, or it is refused
// with an error that has want in it, and what Nix keeps is still before.
func (g *gated) imports(t *testing.T, from, want string, good bool, before string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	stdout, stderr, code := g.Exec(ctx, program, "switch", otherTag, "--from", from)
	if left := g.Run("sh", "-c", "ls -a /var/lib/ec-verify | grep import; ls /nix/var/nix/gcroots | grep ec-verify; true"); left != "" {
		t.Errorf("left over: %s", left)
	}
	if good {
		if code != 0 || !strings.Contains(stdout, "\nimported: ") || g.leads("/nix/var/nix/profiles/system") != g.next || g.leads("/run/current-system") != g.next {
			t.Errorf("exit %d\n%s\n%s\n%s", code, stdout, stderr, g.state())
		}
		return
	}
	if code != 4 || !strings.Contains(stderr, want) {
		t.Errorf("exit %d, want %q: %s", code, want, stderr)
	}
	if after := g.NixState(); withoutTimes(after) != withoutTimes(before) {
		t.Error("something was registered, or left in the store")
	}
}

// TestSwitchImportsSSH: the same from other machines, over a real ssh server with a real
// nix-daemon behind it. The faults are changes in the daemon's answers.
func TestSwitchImportsSSH(t *testing.T) {
	t.Parallel()
	g := startGated(t, "openssh-server", "openssh-client")
	g.Push(built(t, "testdata/peer/main.go"), "/usr/local/bin/peer")
	program4 := g.Run("sh", "-euc", "nix-store -qR "+g.next+" | grep -e -program-04-1.3$")
	g.Run("sh", "-euc", `
		cd /root; install -d -m 700 .ssh
		ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519
		for i in $(seq 300); do ssh-keyscan -t ed25519 127.0.0.1 >.ssh/known_hosts && [ -s .ssh/known_hosts ] && break; sleep 0.1; done; [ -s .ssh/known_hosts ]
		nix copy --to 'local?root=/srv/peer' --no-check-sigs `+g.next+`
		rm /var/lib/ec-verify-testhost/roots/testhost-other
		nix-env -p /nix/var/nix/profiles/system --delete-generations old
		nix-store --gc >/tmp/gc.log
		[ ! -e `+g.next+` ]`)
	const host = "ssh-ng://root@127.0.0.1?remote-store=local%3Froot%3D/srv/peer"
	const nothing = "nothing was imported"
	authorize := func(command string) {
		g.Run("sh", "-euc", `cd /root/.ssh; echo "$1 $(cat id_ed25519.pub)" >authorized_keys`, "sh", command)
	}
	for _, test := range []struct {
		name, kind, script, want string
	}{
		{"a good store", "", "", ""},
		{"a path more after the one that was asked for, which nobody reads", "more", "", ""},
		{"an altered path", "altered", "", "its NAR hash is "},
		{"a path that is altered on its disk", "", "echo x >>/srv/peer" + program4 + "/bin/program-04", nothing},
		{"a truncated NAR", "truncated", "", "from " + host},
		{"an endless NAR", "endless", "", "it is larger than "},
		{"a path that is missing", "", "sqlite3 /srv/peer/nix/var/nix/db/db.sqlite \"pragma foreign_keys=off; delete from ValidPaths where path = '" + program4 + "'\"", "does not have " + program4 + "; " + nothing},
		{"a path more than the release has", "", "echo extra >/tmp/extra; extra=$(nix-store --store 'local?root=/srv/peer' --add /tmp/extra)\n" +
			"sqlite3 /srv/peer/nix/var/nix/db/db.sqlite \"insert into Refs select a.id, b.id from ValidPaths a, ValidPaths b where a.path = '" + program4 + "' and b.path = '$extra'\"",
			"-extra, which the release does not have; " + nothing},
		{"another program in its place", "exec cat", "", "ask " + host + " which paths it has: "},
		{"a server that knows nobody", "nobody", "", "Permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.layered()
			defer g.restored()
			switch test.kind {
			case "":
				authorize("")
			case "exec cat":
				authorize(`command="exec cat"`)
			case "nobody":
				g.Run("rm", "-f", "/root/.ssh/authorized_keys")
			default:
				authorize(`command="/usr/local/bin/peer ` + test.kind + ` program-04"`)
			}
			if test.script != "" {
				g.Run("sh", "-euc", test.script)
			}
			g.imports(t, host, test.want, test.want == "", g.NixState())
		})
	}
	t.Run("a server whose key is unknown, at a terminal", func(t *testing.T) {
		g.layered()
		defer g.restored()
		authorize("")
		g.Run("mv", "/root/.ssh/known_hosts", "/root/known_hosts")
		defer g.Run("mv", "/root/known_hosts", "/root/.ssh/known_hosts")
		out, _, code := g.Exec(t.Context(), "timeout", "120", "script", "-qec", program+" switch "+otherTag+" --from '"+host+"'", "/dev/null")
		if code != 4 || !strings.Contains(out, "Host key verification failed") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("the server goes away in the midst of it", func(t *testing.T) {
		g.layered()
		defer g.restored()
		authorize(`command="/usr/local/bin/peer silent program-04"`)
		g.Run("systemd-run", "--quiet", "--unit=cut", "--collect", "sh", "-c", `until [ -e /run/peer-is-silent ]; do sleep 0.05; done; systemctl kill --signal=KILL ssh`)
		g.imports(t, host, "from "+host, false, g.NixState())
	})
}

// alteredNAR is a script that puts into the cache, for a path, its NAR as a filter
// leaves it, with a narinfo that says so; $nar is the file then.
func alteredNAR(path, filter string) string {
	digest := filepath.Base(path)[:32]
	return `cd /srv/cache; nar=/srv/cache/nar/altered.nar; nix-store --store 'local?root=/srv/peer' --dump /srv/peer` + path + ` | ` + filter + ` >$nar
		hash=sha256:$(nix hash file --type sha256 --base32 $nar); size=$(stat -c %s $nar)
		sed -i -e "s|^URL: .*|URL: nar/altered.nar|" -e "s|^Compression: .*|Compression: none|" -e "s|^FileHash: .*|FileHash: $hash|" \
			-e "s|^FileSize: .*|FileSize: $size|" -e "s|^NarHash: .*|NarHash: $hash|" -e "s|^NarSize: .*|NarSize: $size|" ` + digest + `.narinfo`
}

// withoutTimes leaves out of a [testhost.Host.NixState] the directory and the lock that
// a switch writes to.
func withoutTimes(state string) string {
	var kept []string
	for line := range strings.Lines(state) {
		if !strings.HasPrefix(line, "/nix/var/nix/gcroots d") && !strings.HasPrefix(line, "/nix/var/nix/gc.lock ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
