package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAlerts: the rules are of a right form, and do what they are for.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "../../../docs/alerts.yml"}, {"test", "rules", "../../../docs/alerts_test.yml"}} {
		if out, err := promtool(t, "", args...); err != nil || strings.Contains(out, "FAILED") {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
	tests := readText(t, "../../../docs/alerts_test.yml")
	for _, name := range captures(`(?m)^ +- alert: (\S+)$`, readText(t, "../../../docs/alerts.yml")) {
		if !strings.Contains(tests, "alertname: "+name+" }") {
			t.Errorf("%s: no test of when it is silent", name)
		}
		if !strings.Contains(tests, "alertname: "+name+"\n        exp_alerts:") {
			t.Errorf("%s: no test of when it fires", name)
		}
	}
}

// TestAlertsNoticeChange: a rule that fires otherwise fails its test.
func TestAlertsNoticeChange(t *testing.T) {
	rules := readText(t, "../../../docs/alerts.yml")
	for _, change := range [][2]string{
		{`verdict="drifted"} == 1`, `verdict="drifted"} == 0`},
		{"> 50 * 3600", "> 60 * 3600"},
		{"for: 7d", "for: 8d"},
		{"abs(time() - ec_verify_run_end_timestamp_seconds)", "(time() - ec_verify_run_end_timestamp_seconds)"},
		{" unless on (instance) ec_verify_run_end_timestamp_seconds", ""},
	} {
		t.Run(change[0], func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "alerts_test.yml"), readText(t, "../../../docs/alerts_test.yml"))
			if !strings.Contains(rules, change[0]) {
				t.Fatalf("docs/alerts.yml has no %q", change[0])
			}
			write(t, filepath.Join(dir, "alerts.yml"), strings.Replace(rules, change[0], change[1], 1))
			if out, err := promtool(t, "", "test", "rules", filepath.Join(dir, "alerts_test.yml")); err == nil {
				t.Errorf("with %q: %s", change[1], out)
			}
		})
	}
}

// TestExpressions: what alerts and the dashboard ask for is what the program
// exports, by name, label and value.
func TestExpressions(t *testing.T) {
	exported := encoded(t, drifted())
	expressions := captures(`(?m)^ +expr: (.+)$`, readText(t, "../../../docs/alerts.yml"))
	if len(expressions) == 0 {
		t.Fatal("no alerts")
	}
	fromDashboard := dashboardExpressions(t)
	for _, e := range append(expressions, fromDashboard...) {
		if err := checkExpression(exported, e); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	// The parser is Prometheus's.
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, e := range fromDashboard {
		fmt.Fprintf(&rules, "      - {record: 'r%d', expr: %q}\n", i, e)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	write(t, file, rules.String())
	if out, err := promtool(t, "", "check", "rules", file); err != nil {
		t.Errorf("docs/dashboard.json: %v\n%s", err, out)
	}
	for _, wrong := range []string{`ec_verify_verdicts`, `ec_verify_verdict{verdict="fine"}`, `ec_verify_verdict{verdicts="drifted"}`, `other_metric > 1`} {
		if checkExpression(exported, wrong) == nil {
			t.Errorf("%s passes", wrong)
		}
	}
}

var (
	selector = regexp.MustCompile(`\b(ec_verify_[a-z_]+|up|[a-z]+_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!=|=)"([^"]*)"`)
)

// checkExpression holds the selectors of an expression to what is exported.
func checkExpression(exported, expression string) error {
	for _, m := range selector.FindAllStringSubmatch(expression, -1) {
		name, labels := m[1], m[2]
		if name == "up" {
			continue
		}
		if !strings.Contains(exported, "# TYPE "+name+" ") {
			return fmt.Errorf("there is no %s", name)
		}
		for _, l := range matcher.FindAllStringSubmatch(labels, -1) {
			label, how, value := l[1], l[2], l[3]
			if label == "instance" { // which Prometheus adds
				continue
			}
			want := regexp.QuoteMeta(label) + `="`
			if how != "=~" {
				want += regexp.QuoteMeta(value) + `"`
			}
			if !regexp.MustCompile(`(?m)^` + name + `\{.*\b` + want).MatchString(exported) {
				return fmt.Errorf("there is no %s{%s%q}", name, label, value)
			}
		}
	}
	return nil
}

// dashboardExpressions returns what the panels and variables of the dashboard
// ask for, and holds panels to having something to ask for.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		UID, Title string
		Panels     []struct {
			ID                    int
			Title                 string
			GridPos               struct{ X, Y, W, H int }
			Targets               []struct{ Expr string }
			Datasource, Transform any
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(readText(t, "../../../docs/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID == "" || dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Fatal("docs/dashboard.json is no dashboard")
	}
	var out []string
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("panel %q: two of its id, or it does not fit: %+v", p.Title, p.GridPos)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" {
			inner := captures(`^label_values\((.*), instance\)$`, v.Definition)
			if len(inner) != 1 {
				t.Errorf("variable %s: %s", v.Name, v.Definition)
			}
			out = append(out, inner...)
		}
	}
	if slices.Contains(out, "") {
		t.Error("an empty expression")
	}
	return out
}

func captures(pattern, text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

func readText(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
