// Package reporttest creates the reports that every output format must show correctly:
// the ordinary ones, and those with text of an attacker. Only tests use it.
package reporttest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Cases are reports by name. Each call creates a new one, sorted.
var Cases = map[string]func() *report.Report{
	"verified":     Verified,
	"every-cause":  everyCause,
	"inconclusive": inconclusive,
	"thousand":     func() *report.Report { return Altered(1000) },
	"hostile":      hostile,
	"next-boot":    nextBoot,
	"boot-files":   bootFiles,
	"shared":       shared,
}

// Object returns the store path for a name.
func Object(name string) closure.StorePath {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	sum := sha256.Sum256([]byte(name))
	digest := make([]byte, 32)
	for i := range digest {
		digest[i] = digits[sum[i]&31]
	}
	return closure.StorePath("/nix/store/" + string(digest) + "-" + name)
}

// Verified returns the report of a verified machine.
func Verified() *report.Report {
	started := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	tier := func(name report.TierName, checked int, took time.Duration) report.Tier {
		return report.Tier{Name: name, Status: report.Done, Asked: true, Checked: checked, Took: took}
	}
	r := &report.Report{
		Started: started, Finished: started.Add(95 * time.Second),
		Host: "runner-1", Tool: "v1.2.3", Nix: "nix (Nix) 2.34.8", Against: "boot-v2026.02.28", Configuration: "runner",
		Release: &report.Release{
			Tag: "boot-v2026.02.28", Commit: strings.Repeat("0123456789", 4), Created: started.AddDate(0, 0, -1), BestBefore: started.AddDate(0, 0, 89),
			Source: "/srv/releases", Signer: `key "ci" (aGFzaA==)`, DrvPath: Object("nixos-system.drv"), OutPath: Object("nixos-system"),
		},
		Tiers: []report.Tier{
			tier(report.TierRelease, 1, 3*time.Millisecond), tier(report.TierSource, 2, 20*time.Millisecond), tier(report.TierEval, 1, 8*time.Second),
			tier(report.TierLive, 4, time.Millisecond), tier(report.TierContents, 3, 83*time.Second),
			{Name: report.TierRebuild, Status: report.Skipped, Why: "the policy requests no rebuild"},
		},
		Coverage: report.Coverage{Paths: 3, Hashed: 3, Files: 84, Bytes: 5 << 20, Origins: []report.Origin{
			{Dir: "/nix/store", Type: "ext4", Source: "/dev/sda3", Device: "8:3", Root: "/store", Point: "/nix"},
		}},
		Standing: &report.Standing{Verdict: report.Verified, Since: started.AddDate(0, 0, -9)},
	}
	for i, name := range []string{"linux-6.12", "systemd-257", "glibc-2.40"} {
		r.Closure = append(r.Closure, report.ClosurePath{Path: Object(name), Size: 1 << (20 - i), State: report.Hashed, Checked: started.Add(time.Minute)})
	}
	return r
}

// changed returns the finding for a path with one altered file.
func changed(path closure.StorePath, name string) report.Finding {
	entry := nar.Entry{Path: name, Type: nar.Regular, Size: 12345, SHA256: nar.Hash(sha256.Sum256([]byte("want"))), Executable: true}
	other := entry
	other.SHA256 = nar.Hash(sha256.Sum256([]byte("got")))
	return report.Finding{
		Tier: report.TierContents, Cause: closure.DiskAltered, Path: string(path), Want: entry.SHA256.String(), Got: other.SHA256.String(),
		Files: []closure.FileChange{{Path: excerpt.Raw(name), Kind: closure.FileContent, Want: entry, Got: other}},
	}
}

func drifted(findings ...report.Finding) *report.Report {
	r := Verified()
	r.Findings = findings
	r.Standing = &report.Standing{Verdict: report.Drifted, Since: r.Started}
	r.Sort()
	return r
}

// Altered returns the report of a machine with n altered files, each in another path.
func Altered(n int) *report.Report {
	var all []report.Finding
	for i := range n {
		all = append(all, changed(Object(fmt.Sprintf("program-%03d", i)), "bin/program"))
	}
	return drifted(all...)
}

// everyCause returns a report with a finding for each cause.
func everyCause() *report.Report {
	var all []report.Finding
	causes := report.Causes()
	slices.Sort(causes)
	for _, c := range causes {
		all = append(all, report.Finding{Tier: report.TierContents, Cause: c, Path: string(Object("p")), Detail: "why"})
	}
	return drifted(all...)
}

// The release that a machine is to boot next, beside the one of [Verified] that it runs.
const next = "boot-v2026.03.15"

// pending is the finding about the system profile of a machine that is to boot [next].
func pending(cause report.Cause, consequenceOf report.Cause) report.Finding {
	return report.Finding{
		Tier: report.TierLive, Cause: cause, Path: "/nix/var/nix/profiles/system", ConsequenceOf: consequenceOf,
		Want: string(Object("nixos-system")), Got: string(Object("nixos-system-runner-26.05.3")), Detail: "it leads to the accepted release " + next,
	}
}

// nextBoot returns the report of a machine that runs its release and can boot other
// systems: of another accepted release, altered; of a revoked one; of none.
func nextBoot() *report.Report {
	altered := changed(Object("program-v2"), "bin/program")
	altered.Release, altered.Releases = next, []string{next}
	return drifted(
		altered, pending(report.PendingAltered, altered.Cause),
		report.Finding{
			Tier: report.TierLive, Cause: report.OtherEntry, Path: "/boot/loader/entries/nixos-generation-7-specialisation-debug.conf",
			Want: string(Object("nixos-system")) + "/init", Got: string(Object("nixos-system-runner-26.05.1")), Detail: "it is no generation of a system profile",
		},
		report.Finding{
			Tier: report.TierLive, Cause: report.ReleaseRevoked, Path: "/boot/loader/entries/nixos-generation-6.conf",
			Want: string(Object("nixos-system")) + "/init", Got: string(Object("nixos-system-runner-26.05.0")), Detail: "it is release boot-v2026.02.21: revoked on 2026-02-25: it lets everybody in",
		},
		report.Finding{
			Tier: report.TierLive, Cause: report.BootAltered, Path: "/boot/EFI/nixos/" + Object("linux-6.12.9-bzImage.efi").Base(), Field: "kernel", Release: next,
			Want: string(Object("linux-6.12.9")) + "/bzImage", Got: "another byte at 1048576 of 12345678",
		},
	)
}

// bootFiles returns the report of a machine of which the boot files of the system that
// runs are altered.
func bootFiles() *report.Report {
	return drifted(report.Finding{
		Tier: report.TierLive, Cause: report.BootAltered, Path: "/boot/EFI/nixos/" + Object("linux-6.12-bzImage.efi").Base(), Field: "kernel",
		Want: string(Object("linux-6.12")) + "/bzImage", Got: "another byte at 1048576 of 12345678",
	})
}

// shared returns the report of a machine that is to boot another release than it runs,
// with a path altered that both have, and one that the running one alone has.
func shared() *report.Report {
	both, own := changed(Object("glibc-2.40"), "lib/libc.so.6"), changed(Object("program-v1"), "bin/program")
	both.Releases, own.Releases = []string{"boot-v2026.02.28", next}, []string{"boot-v2026.02.28"}
	return drifted(both, own, pending(report.PendingAltered, both.Cause))
}

func inconclusive() *report.Report {
	r := Verified()
	r.Tiers[4].Status, r.Tiers[4].Why = report.Failed, "stopped before its end"
	r.Findings = []report.Finding{{Tier: report.TierContents, Cause: report.Interrupted, Detail: "the contents tier was stopped before its end"}}
	return r
}

// Untrusted returns the report of a run whose only release was refused, with the given
// findings.
func Untrusted(findings ...report.Finding) *report.Report {
	r := Verified()
	r.Release, r.Coverage, r.Closure, r.Standing = nil, report.Coverage{}, nil, nil
	for i := range r.Tiers {
		r.Tiers[i].Status, r.Tiers[i].Why, r.Tiers[i].Checked = report.Skipped, "there is no trusted release to compare with", 0
	}
	r.Tiers[0].Status, r.Tiers[0].Why = report.Failed, "the release is not trusted"
	r.Findings = findings
	r.Sort()
	return r
}

// Hostile are file names chosen to mislead a reader, or the program that shows them.
var Hostile = []string{
	"bell\a\x1b]0;title\x07\x00\x7f\u009b31m",
	"\u202eright to left\u2066\u200b\u3164\U000e0041",
	"<script>alert(1)</script><img src=x onerror=alert(1)></pre></style>-->]]>&lt;",
	"\x1b[2J\x1b[1;1Hverified: this machine is fine",
	"line\r\nverified: all is well\n::error::x",
	"`|**[a](javascript:alert(1))** @root {{.}} \" ' & \\ %0a",
	"caf\xe9\xff",
	strings.Repeat("x", 4000),
	"blank " + strings.Repeat("word ", 800),
}

// hostile returns a report with each of Hostile in every place that an attacker can write
// to: path, file, link target, and the text of an error.
func hostile() *report.Report {
	var all []report.Finding
	for _, s := range Hostile {
		f := changed(Object("lib"), s)
		f.Files = append(f.Files, closure.FileChange{Path: "link", Kind: closure.FileTarget, Want: nar.Entry{Type: nar.Symlink, Target: "a"}, Got: nar.Entry{Type: nar.Symlink, Target: s}})
		all = append(all, f, report.Finding{Tier: report.TierLive, Cause: report.OtherSystem, Path: "/run/" + s, Field: s, Want: s, Got: s, Detail: s})
	}
	return drifted(all...)
}
