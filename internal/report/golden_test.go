package report

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

var update = flag.Bool("update", false, "write the golden files anew")

func hashOf(s string) nar.Hash { return nar.Hash(sha256.Sum256([]byte(s))) }

func object(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

// verified returns the report of a run that went well.
func verified() *Report {
	started := time.Date(2026, 3, 1, 4, 5, 6, 0, time.FixedZone("", 3600))
	tier := func(name TierName, checked int, took time.Duration) Tier {
		return Tier{Name: name, Status: Done, Asked: true, Checked: checked, Took: took}
	}
	return &Report{
		Started: started, Finished: started.Add(95 * time.Second),
		Host: "runner-1", Tool: "v1.2.3", Nix: "nix (Nix) 2.34.8", Against: "boot-v2026.02.28", Configuration: "ec-runner-x86_64",
		Release: &Release{
			Tag: "boot-v2026.02.28", Commit: strings.Repeat("0123456789", 4), Created: started.AddDate(0, 0, -1), BestBefore: started.AddDate(0, 0, 89),
			RefusedAfter: started.AddDate(0, 0, 92), KeyNotAfter: started.AddDate(1, 0, 0),
			Source: "/srv/releases", Signer: `key "release" (aGFzaA==)`,
			DrvPath: object("d", "nixos-system.drv"), OutPath: object("a", "nixos-system"),
		},
		Tiers: []Tier{
			tier(TierRelease, 1, 3*time.Millisecond), tier(TierSource, 2, 20*time.Millisecond), tier(TierEval, 1, 8*time.Second),
			tier(TierLive, 4, time.Millisecond), tier(TierContents, 1200, 83*time.Second),
			{Name: TierRebuild, Status: Skipped, Why: "the policy requests no rebuild"},
		},
		Coverage: Coverage{Paths: 1200, Hashed: 1200, Files: 84_000, Bytes: 5 << 30, Origins: []Origin{
			{"/nix/var/nix/profiles", "ext4", "/dev/sda3", "8:3", "/var/nix/profiles", "/nix"},
			{"/run", "tmpfs", "tmpfs", "0:25", "/", "/run"},
			{"/nix/store", "ext4", "/dev/sda3", "8:3", "/store", "/nix"},
		}},
	}
}

func fail(r *Report, name TierName, status Status, why string) {
	for i := range r.Tiers {
		if t := &r.Tiers[i]; t.Name == name {
			t.Status, t.Why, t.Checked, t.Took = status, why, 0, 0
		}
	}
}

// unopened returns the report of a run that had no release to compare with.
func unopened(f Finding) *Report {
	r := verified()
	r.Release, r.Coverage = nil, Coverage{}
	fail(r, TierRelease, Failed, Title(f.Cause))
	for _, t := range []TierName{TierSource, TierEval, TierLive, TierContents} {
		fail(r, t, Skipped, "there is no trusted release to compare with")
	}
	r.Findings = []Finding{f}
	return r
}

// reports are the cases of the golden files.
var reports = map[string]func() *Report{
	"verified": verified,
	"look": func() *Report {
		r := verified()
		r.Standing = &Standing{Look: "the policy does not request --unsafe-skip", Verdict: Drifted, Since: r.Started.AddDate(0, 0, -2)}
		return r
	},
	"stays": func() *Report {
		r := verified()
		r.Standing = &Standing{Verdict: Drifted, Since: r.Started.AddDate(0, 0, -2)}
		return r
	},
	"drifted": func() *Report {
		r := verified()
		path := string(object("b", "lib"))
		file := nar.Entry{Path: "bin/program", Type: nar.Regular, Size: 3, SHA256: hashOf("abc"), Executable: true}
		other := file
		other.SHA256, other.Executable = hashOf("abd"), false
		link := nar.Entry{Path: "lib/link", Type: nar.Symlink, Target: "libc.so"}
		evil := nar.Entry{Path: "lib/link", Type: nar.Symlink, Target: "/tmp/\x1b[2Kevil\\"}
		r.Closure = []ClosurePath{
			{object("a", "nixos-system"), 4096, Hashed, r.Started.Add(time.Minute), nil},
			{object("b", "lib"), 1 << 20, Remembered, r.Started.AddDate(0, 0, -3), nil},
			{object("c", "more"), 512, Overdue, time.Time{}, nil},
		}
		r.Findings = []Finding{
			{Tier: TierContents, Cause: closure.DiskAltered, Path: path, Want: hashOf("want").String(), Got: hashOf("got").String(), Files: []closure.FileChange{
				{Path: "", Kind: closure.FileType, Want: nar.Entry{Type: nar.Directory}, Got: link},
				{Path: "bin/program", Kind: closure.FileContent, Want: file, Got: other},
				{Path: "caf\xe9", Kind: closure.FileAdded, Got: nar.Entry{Path: "caf\xe9", Type: nar.Directory}},
				{Path: "lib/gone", Kind: closure.FileRemoved, Want: file},
				{Path: "lib/link", Kind: closure.FileTarget, Want: link, Got: evil},
			}, MoreFiles: 2},
			{Tier: TierContents, Cause: closure.DatabaseAltered, Path: path, Field: "narSize", Want: "112", Got: "120"},
			{Tier: TierContents, Cause: closure.DatabaseAltered, Path: path, Field: "references", Got: string(object("c", "more"))},
			{Tier: TierContents, Cause: PermissionsAltered, Path: path + "/caf\xe9", Got: "mode 4555"},
			{Tier: TierLive, Cause: OtherSystem, Path: "/run/current-system", Want: string(object("a", "nixos-system")), Got: string(object("e", "nixos-system"))},
			{Tier: TierContents, Cause: closure.Extra, Path: string(object("e", "nixos-system")), Got: hashOf("extra").String(), ConsequenceOf: OtherSystem},
			{Tier: TierContents, Cause: Unreadable, Path: string(object("f", "rotten")), Detail: `read "…-rotten/x": input/output error`},
			{Tier: TierLive, Cause: PendingReboot, Path: "/run/booted-system", Detail: "it leads to the accepted release boot-v2026.02.01"},
		}
		return r
	},
	"many": func() *Report {
		r := verified()
		for i := range shownPerGroup + 3 {
			r.Findings = append(r.Findings, Finding{Tier: TierContents, Cause: closure.Missing, Path: string(object("b", fmt.Sprintf("lib-%02d", i)))})
		}
		return r
	},
	"untrusted": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseUntrusted, Path: "boot-v2026.02.28", Detail: "no signature"})
	},
	"untrusted-expired": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseExpired, Path: "boot-v2026.02.28", Detail: "best before 2026-02-28T00:00:00Z"})
	},
	"untrusted-rolled-back": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseRolledBack, Path: "boot-v2026.02.28", Detail: "this machine has already accepted the newer boot-v2026.03.28"})
	},
	"untrusted-not-accepted": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseNotAccepted, Path: "boot-v2026.02.28", Detail: "the policy lists boot-v2026.03.28"})
	},
	"untrusted-key-ended": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseKeyEnded, Path: "boot-v2026.02.28", Detail: `signed with key "ci", which was valid until 2026-02-28T00:00:00Z`})
	},
	"untrusted-part": func() *Report {
		r := verified()
		r.Findings = []Finding{{Tier: TierContents, Cause: ReleaseUntrusted, Path: "boot-v2026.02.28", Detail: "its listing is malformed"}}
		return r
	},
	"inconclusive": func() *Report {
		return unopened(Finding{Tier: TierRelease, Cause: ReleaseUnavailable, Path: "boot-v2026.02.28", Detail: "not found in /srv/releases"})
	},
	"interrupted": func() *Report {
		r := verified()
		fail(r, TierContents, Failed, "stopped before its end")
		r.Coverage.Hashed = 7
		r.Findings = []Finding{{Tier: TierContents, Cause: Interrupted, Detail: "the contents tier was stopped before its end"}}
		return r
	},
	"unsigned": func() *Report {
		r := verified()
		r.Release.Unsigned, r.Release.Signer, r.Release.BestBefore = true, "nobody: the signature was not checked", time.Time{}
		r.Unsafe = []string{"unsafe-skip eval", "unsigned"}
		fail(r, TierEval, Skipped, "skipped on request")
		r.Tiers[2].Asked = false
		r.Findings = []Finding{{Tier: TierEval, Cause: CheckSkipped, Detail: "the eval tier was not run"}}
		return r
	},
	"store-root": func() *Report {
		r := verified()
		r.StoreRoot = "/mnt/a disk"
		r.Tiers[3].Why = "the system profile alone: /mnt/a disk is not the running machine"
		r.Coverage.Read, r.Coverage.FromCache = nar.ReadDisk, 1
		return r
	},
}

func TestText(t *testing.T) {
	for name, make := range reports {
		t.Run(name, func(t *testing.T) {
			r := make()
			r.Sort()
			var b bytes.Buffer
			if err := r.WriteText(&b, TextOptions{}); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, name+".text.golden", b.Bytes())
		})
	}
}

func TestJSON(t *testing.T) {
	for _, name := range []string{"drifted", "untrusted", "unsigned"} {
		t.Run(name, func(t *testing.T) {
			r := reports[name]()
			r.Sort()
			var b bytes.Buffer
			if err := r.WriteJSON(&b); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, name+".json.golden", b.Bytes())
		})
	}
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", file, diff)
	}
}
