package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/tests/testhost"
)

// block is a block of code of a document: commands, or a file whose name stands
// in its first line.
type block struct{ language, file, text string }

// section returns the part of a page of docs that is below this heading, with the
// sections below it.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	data, err := os.ReadFile("../../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("docs/%s has no %q", page, heading)
	}
	// A file in a block of code may begin with one "#".
	level := strings.Index(heading, " ")
	if end := regexp.MustCompile(fmt.Sprintf(`(?m)^#{2,%d} `, level)).FindStringIndex(part); end != nil {
		part = part[:end[0]]
	}
	return part
}

// blocks returns the blocks of the section of docs/monitoring.md with this heading,
// but for what is there to be read only.
func blocks(t *testing.T, heading string) []block {
	t.Helper()
	var out []block
	for _, m := range regexp.MustCompile("(?ms)^```(sh|ini|yaml)\n(?:# (/\\S+|\\S+\\.yml)\n)?(.*?)^```").FindAllStringSubmatch(section(t, "monitoring.md", heading), -1) {
		out = append(out, block{m[1], m[2], m[3]})
	}
	if len(out) == 0 {
		t.Fatalf("%q has no blocks", heading)
	}
	return out
}

// follow carries out the commands of a section on the host.
func follow(t *testing.T, h *testhost.Host, heading string) {
	t.Helper()
	for _, b := range blocks(t, heading) {
		if b.file == "" {
			h.Run("sh", "-euc", b.text)
			continue
		}
		h.Run("mkdir", "-p", filepath.Dir(b.file))
		if err := os.WriteFile(h.Path(b.file), []byte(b.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// join gives the collector and a machine a network of the two of them, the n-th:
// a pair of devices, made in the machine's namespace and nowhere else.
func join(t *testing.T, collector, machine *testhost.Host, n int) {
	t.Helper()
	pid := func(h *testhost.Host) string {
		return strings.Split(strings.TrimPrefix(h.Path("/x"), "/proc/"), "/")[0]
	}
	ip := func(h *testhost.Host, args string) {
		t.Helper()
		cmd := exec.Command("nsenter", append([]string{"-t", pid(h), "-n", "ip"}, strings.Fields(args)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip(machine, fmt.Sprintf("link add name up0 type veth peer name down%d netns %s", n, pid(collector)))
	ip(machine, fmt.Sprintf("addr add 10.77.%d.2/24 dev up0", n))
	ip(collector, fmt.Sprintf("addr add 10.77.%d.1/24 dev down%d", n, n))
	ip(machine, "link set up0 up")
	ip(collector, fmt.Sprintf("link set down%d up", n))
	machine.Run("sh", "-euc", fmt.Sprintf(`echo "10.77.%d.1 collector.example.org" >>/etc/hosts`, n))
}

// TestFleet follows docs/monitoring.md: two machines send their journals to a third,
// and there is asked which of them drifted.
func TestFleet(t *testing.T) {
	t.Parallel()
	machines := []*machine{startReleased(t), startReleased(t)}
	collector := startWith(t, testhost.Options{Layers: []string{share(t, "bare")}}).Host

	dir := t.TempDir()
	for _, b := range blocks(t, "### Certificates") {
		cmd := exec.Command("sh", "-euc", b.text)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	certify := func(h *testhost.Host, name, to string) {
		t.Helper()
		h.Run("mkdir", "-p", to)
		h.Push(filepath.Join(dir, "ca.pem"), to+"/ca.pem")
		h.Push(filepath.Join(dir, name+".pem"), to+"/cert.pem")
		h.Push(filepath.Join(dir, name+".key"), to+"/key.pem")
	}
	certify(collector, "collector.example.org", "/etc/ssl/journal-remote")
	follow(t, collector, "### The collector")

	keys := filepath.Join(dir, "keys")
	for i, m := range machines {
		name := fmt.Sprintf("runner-%d", i+1)
		m.installUnit(`, "report": {"keyFile": "/etc/ec-verify/report.key"}`)
		key := filepath.Join(keys, name)
		if out, err := exec.Command("sh", "-euc", `mkdir -p "$(dirname "$1")"
			openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
			openssl pkey -in "$1.key" -pubout -out "$1.pub"`, "sh", key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m.Push(key+".key", "/etc/ec-verify/report.key")
		join(t, collector, m.Host, i+1)
		certify(m.Host, name+".example.org", "/etc/ssl/journal-upload")
		follow(t, m.Host, "### Each machine")
	}
	altered := machines[0].path("program-01-1.1")
	machines[0].FlipByte(altered+"/bin/program-01", 3)
	for i, want := range []string{"exit-code 1", "success 0"} {
		if result, entries := machines[i].runUnit(); result != want {
			t.Fatalf("machine %d: %s: %v", i+1, result, entries)
		}
	}

	ask := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := collector.Exec(context.Background(), args...)
		if code != 0 && code != 1 { // 1: no entries yet
			t.Fatalf("%q: exit %d: %s", args, code, stderr)
		}
		return stdout
	}
	arrived := func(event systemd.Event) bool {
		return strings.Contains(ask("journalctl", "-D", "/var/log/journal/remote", "-o", "json", "MESSAGE_ID="+string(event)), string(event))
	}
	for deadline := time.Now().Add(runTimeout); !arrived(systemd.RunVerified) || !arrived(systemd.RunDrifted); {
		if time.Now().After(deadline) {
			t.Fatalf("nothing arrives:\n%s\n%s\n%s", ask("ls", "-l", "/var/log/journal/remote"),
				ask("journalctl", "-u", "systemd-journal-remote", "--no-pager"), machines[0].Run("journalctl", "-u", "systemd-journal-upload", "--no-pager"))
		}
		time.Sleep(100 * time.Millisecond)
	}

	var answers []string
	for _, b := range blocks(t, "### Questions") {
		answers = append(answers, collector.Run("sh", "-euc", b.text))
	}
	drifted, sound := machines[0].Run("hostname"), machines[1].Run("hostname")
	if a := answers[0]; !strings.Contains(a, drifted) || strings.Contains(a, sound) || !strings.Contains(a, "drifted: this machine is not release") {
		t.Errorf("which machines drifted: %s", a)
	}
	var found struct {
		Host  string `json:"_HOSTNAME"`
		Cause string `json:"EC_VERIFY_CAUSE"`
		Path  string `json:"EC_VERIFY_PATH"`
		File  string `json:"EC_VERIFY_FILE"`
	}
	if err := json.Unmarshal([]byte(answers[1]), &found); err != nil || found.Host != drifted || found.Cause != "disk-altered" || found.Path != altered || found.File != "bin/program-01" {
		t.Errorf("which paths: %v: %s", err, answers[1])
	}
	if a := answers[2]; !strings.Contains(a, "disk-altered") || strings.Contains(a, sound) {
		t.Errorf("what one machine said: %s", a)
	}
	if a := answers[3]; !strings.Contains(a, "remote-10.77.1.2.journal") || !strings.Contains(a, "remote-10.77.2.2.journal") {
		t.Errorf("which machines there are: %s", a)
	}

	t.Run("who is asked for a certificate", func(t *testing.T) {
		// What docs/monitoring.md says of Debian 13.
		if v := collector.Run("systemctl", "--version"); !strings.Contains(v, "-GNUTLS") {
			t.Errorf("this systemd has GnuTLS: %s", v)
		}
		if log := collector.Run("journalctl", "-u", "systemd-journal-remote", "--no-pager"); !strings.Contains(log, "Certificate checking disabled.") {
			t.Errorf("the collector says nothing of certificates: %s", log)
		}
		// A machine does not send to who has no certificate of its CA.
		m := machines[1]
		certify(m.Host, "runner-1.example.org", "/etc/ssl/other")
		m.Run("sh", "-euc", `systemctl stop systemd-journal-upload
			cp /etc/ssl/other/cert.pem /etc/ssl/journal-upload/ca.pem`)
		_, stderr, code := m.Exec(context.Background(), "timeout", "300", "/usr/lib/systemd/systemd-journal-upload")
		if code == 0 || code == 124 || !strings.Contains(stderr, "certificate") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("signed reports", func(t *testing.T) {
		collector.Push(keys, "/root/keys")
		for i, m := range machines {
			reports := filepath.Join(dir, fmt.Sprintf("runner-%d", i+1))
			if out, err := exec.Command("cp", "-r", m.Path("/var/lib/ec-verify/reports"), reports).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			collector.Run("mkdir", "-p", "/root/reports")
			collector.Push(reports, fmt.Sprintf("/root/reports/runner-%d", i+1))
		}
		for _, b := range blocks(t, "### Signed reports of a fleet") {
			out, stderr, code := collector.Exec(context.Background(), "sh", "-euc", "cd /root; "+b.text)
			if code != 0 || !strings.Contains(out, ": drifted, ") || !strings.Contains(out, ": verified, ") {
				t.Errorf("exit %d: %s%s", code, out, stderr)
			}
		}
	})
}

// TestFleetPrometheus: the configuration that docs/monitoring.md gives is one.
func TestFleetPrometheus(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("fleet: no promtool")
	}
	dir := t.TempDir()
	rules, err := os.ReadFile("../../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "alerts.yml"), rules, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t, "### Metrics of a fleet") {
		file := filepath.Join(dir, b.file)
		if err := os.WriteFile(file, []byte(b.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool, "check", "config", file).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
