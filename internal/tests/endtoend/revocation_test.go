package endtoend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// TestRevocation: a machine that runs a release which its publisher revokes says so from
// its next fetch on, in report, journal, metrics and status, whatever becomes of the
// source; nothing takes that release any more, and an update to another one ends it.
func TestRevocation(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	key, public := testhost.SigningKey(t)
	a.write("/root/own.key", key)
	a.write("/etc/ec-verify/ci.pub", public)
	a.write("/etc/ec-verify/config.json", fmt.Sprintf(`{
		"release": {"source": [%q], "accept": [%q, %q]},
		"trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]},
		"metrics": {"file": %q}
	}`, forgeURL, tag, otherTag, metricsFile))
	a.Run("mkdir", "-p", metricsDir)
	a.dropIn("ec-verify.service", "metrics", "[Service]\nReadWritePaths=-"+metricsDir)
	for _, name := range []string{tag, otherTag} {
		a.Run(program, "release", "sign", releases+"/"+name, "--key", "/root/own.key", "--replace")
	}
	fetch := func(want string) {
		t.Helper()
		a.Exec(context.Background(), "systemctl", "start", "ec-verify-fetch")
		if got := a.show("ec-verify-fetch", "Result") + " " + a.show("ec-verify-fetch", "ExecMainStatus"); got != want {
			t.Fatalf("the fetch ended with %s, want %s\n%s", got, want, a.Run("journalctl", "-u", "ec-verify-fetch", "--no-pager", "-n", "20"))
		}
	}
	audit := func(want string, causes ...string) {
		t.Helper()
		before := a.now()
		if got := a.run(); got != want {
			t.Errorf("the run ended with %s, want %s\n%s", got, want, a.Run("journalctl", "-u", "ec-verify", "--no-pager", "-n", "40"))
		}
		var journal []string
		for _, e := range a.journal(before, "-u", "ec-verify") {
			journal = append(journal, e["EC_VERIFY_CAUSE"])
		}
		metrics, standing := a.metrics(), a.status().Standing
		for _, cause := range []string{"release-revoked", "revocations-refused", "accepted-revoked"} {
			class := map[string]string{"release-revoked": "drift", "revocations-refused": "inconclusive", "accepted-revoked": "notice"}[cause]
			has := slices.Contains(causes, cause)
			if got := metrics[fmt.Sprintf(`ec_verify_findings{cause=%q,class=%q}`, cause, class)]; (got == "1") != has {
				t.Errorf("metrics: %s is %q, want %v", cause, got, has)
			}
			if class == "notice" {
				continue
			}
			if slices.Contains(journal, cause) != has {
				t.Errorf("journal: %q, want %s: %v", journal, cause, has)
			}
			var told []string
			if standing != nil {
				for _, f := range standing.Findings {
					told = append(told, f.Cause)
				}
			}
			// What drifted stays until a run has verified it.
			if got := slices.Contains(told, cause); got != has && (has || want == "success 0") {
				t.Errorf("status: %q, want %s: %v", told, cause, has)
			}
		}
	}
	candidate := func(name string, code int, says string) {
		t.Helper()
		stdout, stderr, got := a.Exec(context.Background(), program, "candidate", name, "--offline")
		if got != code || !strings.Contains(stdout, says) {
			t.Errorf("candidate %s: exit %d: %s%s", name, got, stdout, stderr)
		}
	}
	fetch("success 0")
	audit("success 0")

	a.Run(program, "release", "revoke", tag, "--reason", "its sshd lets everybody in", "--out", releases+"/revocations", "--key", "/root/own.key")
	// It has not heard of it.
	a.report(program, "--offline", "--output", "json").expect(t, "verified", 0)
	// The other one that its policy lists can be had.
	fetch("success 0")
	audit("exit-code 1", "release-revoked")
	candidate(tag, 1, "its publisher has revoked it")
	candidate(otherTag, 0, "verified: ")
	// Nor does the gate let it in, or fetch any of it.
	profile := a.Run("readlink", "-f", "/nix/var/nix/profiles/system")
	a.Run("mkdir", "/root/stick")
	for _, args := range [][]string{nil, {"--from", "/root/stick"}} {
		stdout, stderr, code := a.Exec(context.Background(), append([]string{program, "switch", tag, "boot", "--offline"}, args...)...)
		if code != 1 || !strings.Contains(stdout, "its publisher has revoked it") {
			t.Errorf("switch %q: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
	if got := a.Run("readlink", "-f", "/nix/var/nix/profiles/system"); got != profile {
		t.Errorf("the profile leads to %s", got)
	}
	a.hide()
	audit("exit-code 1", "release-revoked")
	r := a.report(program, "--offline", "--output", "json")
	r.expect(t, "drifted", 1, "release-revoked "+tag)
	if r.Release == nil || r.Release.Tag != tag || !strings.Contains(r.Findings[0].Detail, "its sshd lets everybody in") {
		t.Errorf("%+v, %+v", r.Release, r.Findings)
	}

	// A forge that lies changes nothing, and is told of.
	a.serve()
	a.Run("sh", "-euc", "cd "+releases+"; cp -r revocations /root/good; echo {} >revocations/SHA256SUMS.txt.sigstore.json")
	fetch("exit-code 4")
	audit("exit-code 1", "release-revoked", "revocations-refused")
	a.Run("rm", "-r", releases+"/revocations")
	fetch("exit-code 4")
	audit("exit-code 1", "release-revoked", "revocations-refused")

	// The machine is updated, and the list is there again.
	other := a.Runner().Systems["testhost-other"].Toplevel
	a.Activate(other, other)
	audit("exit-code 4", "revocations-refused", "accepted-revoked")
	a.Run("cp", "-r", "/root/good", releases+"/revocations")
	fetch("success 0") // its policy lists the one that is revoked, and another
	audit("success 0", "accepted-revoked")
}
