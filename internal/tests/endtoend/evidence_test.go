package endtoend

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	reportDir = "/var/lib/ec-verify/reports"
	nodeKey   = "/root/node.key"
	nodePub   = "/root/node.pub"
)

// signedUnit returns a machine with the unit as it is shipped, and a key that is
// given to nobody yet.
func signedUnit(t *testing.T, config string) *machine {
	m := startUnit(t, config)
	m.Run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", nodeKey)
	m.Run("openssl", "pkey", "-in", nodeKey, "-pubout", "-out", nodePub)
	return m
}

// verdicts holds the machine's signed reports to their key and to each other,
// and returns their verdicts.
func (m *machine) verdicts() []string {
	m.t.Helper()
	stdout, stderr, code := m.Exec(context.Background(), "sh", "-c", program+" report verify --output json --key "+nodePub+" "+reportDir+"/*.sigstore.json")
	var out struct {
		Valid   bool
		Reports []struct{ Verdict, Error, Machine string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != 0 || !out.Valid {
		m.t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	var verdicts []string
	for _, r := range out.Reports {
		verdicts = append(verdicts, r.Verdict)
		if want := m.Run("systemd-id128", "machine-id", "--app-specific=363a2693-fc99-4ae1-bf96-802637129415"); r.Machine != want {
			m.t.Errorf("a report of machine %s, this is %s", r.Machine, want)
		}
	}
	return verdicts
}

// notSigned reports whether an entry says that the report is not signed.
func notSigned(entries []journalEntry) bool {
	return slices.ContainsFunc(entries, func(e journalEntry) bool { return e["EC_VERIFY_CAUSE"] == "not-signed" })
}

// The key is a credential of the unit, in each of the ways in which systemd has
// them. What cannot be signed is verified all the same.
func TestSignedReports(t *testing.T) {
	t.Parallel()
	m := signedUnit(t, "")
	dropIn := "/etc/systemd/system/ec-verify.service.d/key.conf"
	signed := 0
	run := func(name, result string, sign bool) {
		t.Helper()
		got, entries := m.runUnit()
		if got != result || notSigned(entries) == sign {
			t.Errorf("%s: the unit ends with %s, not signed: %v; want %s, %v", name, got, notSigned(entries), result, !sign)
		}
		if sign {
			signed++
		}
	}
	if got, entries := m.runUnit(); got != "success 0" || notSigned(entries) {
		t.Errorf("without a key: %s, not signed: %v", got, notSigned(entries))
	}
	if _, _, code := m.Exec(t.Context(), "test", "-e", reportDir); code == 0 {
		t.Error("signed reports without a key")
	}

	m.Run("install", "-Dm600", nodeKey, "/etc/credstore/ec-verify-report-key")
	run("in the credential store", "success 0", true)
	m.Run("rm", "/etc/credstore/ec-verify-report-key")
	run("the key is gone", "success 0", false)

	const encrypted = "/etc/credstore.encrypted/ec-verify-report-key"
	m.Run("systemd-creds", "encrypt", "--with-key=host", "--name=ec-verify-report-key", nodeKey, encrypted)
	run("in the encrypted store", "success 0", true)
	// By hand, with a nonce, as the documentation has it.
	document, err := os.ReadFile("../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile(`(?m)^systemd-run .* --nonce (\S+)$`).FindStringSubmatch(string(document))
	if recipe == nil {
		t.Fatal("docs/monitoring.md has no recipe for a nonce")
	}
	m.Run("sh", "-euc", recipe[0])
	signed++
	newest := m.Run("sh", "-c", "ls "+reportDir+"/report-*.sigstore.json | tail -n 1")
	m.Run(program, "report", "verify", newest, "--key", nodePub, "--nonce", recipe[1])
	m.Run("mv", encrypted, "/root/encrypted")
	m.write(dropIn, "[Service]\nLoadCredentialEncrypted=ec-verify-report-key:/root/encrypted\n")
	m.Run("systemctl", "daemon-reload")
	run("LoadCredentialEncrypted=", "success 0", true)
	m.write(dropIn, "[Service]\nLoadCredential=ec-verify-report-key:"+nodeKey+"\n")
	m.Run("systemctl", "daemon-reload")

	m.edit(m.path("program-01-1.1")+"/bin/program-01", `echo "# changed" >> "$1"`)
	run("drift", "exit-code 1", true)

	// Names that somebody else took: the chain goes on, and it is said.
	m.Run("sh", "-euc", "cd "+reportDir+"; echo x >report-999999999999999999.sigstore.json; echo x >report-0000000400.sigstore.json")
	got, entries := m.runUnit()
	if got != "exit-code 1" || notSigned(entries) || !slices.ContainsFunc(entries, func(e journalEntry) bool {
		return e["EC_VERIFY_CAUSE"] == "foreign-report" && e["EC_VERIFY_PATH"] == reportDir+"/report-0000000400.sigstore.json.foreign"
	}) {
		t.Errorf("with planted reports the unit ends with %s: %v", got, entries)
	}
	signed++

	// No room: nothing half-written, and the next one goes on.
	m.Run("mount", "-t", "tmpfs", "-o", "nr_inodes=1,mode=700", "none", reportDir)
	run("no room", "exit-code 1", false)
	m.Run("umount", reportDir)
	run("room again", "exit-code 1", true)
	if stray := m.Run("find", reportDir, "-name", ".*", "-type", "f"); stray != "" {
		t.Errorf("left over: %s", stray)
	}

	want := []string{"verified", "verified", "verified", "verified", "drifted", "drifted", "drifted"}
	if got := m.verdicts(); !slices.Equal(got, want) || len(got) != signed {
		t.Errorf("signed reports say %q, want %q", got, want)
	}
	if strings.Contains(m.Run("sh", "-c", "cat "+reportDir+"/*"), "PRIVATE KEY") {
		t.Error("the key is in a report")
	}
}
