package running

import (
	"strings"
	"testing"
)

func TestDiffers(t *testing.T) {
	const text = `# a unit
[Service]
Environment="A=one two" B=3
Environment=C=%i
User=runner
EnvironmentFile=-/etc/run.env
EnvironmentFile=/var/lib/run//./more.env
ExecStartPre=-/bin/pre --x=%I ; /bin/second
ExecStart=@/bin/run argv0 "a b" 'c' \
  # not a part of it
  --long=$OPTION
ExecReload=+/bin//reload
ExecStop=kill -s %%TERM
`
	for name, test := range map[string]struct {
		unit Unit
		want string
	}{
		"as written": {Unit{
			Commands: []Command{
				{"/bin/pre", []string{"/bin/pre", "--x=some/thing"}}, {"/bin/second", []string{"/bin/second"}},
				{"/bin/run", []string{"argv0", "a b", "c", "--long=$OPTION"}}, {"/usr/bin/kill", []string{"kill", "-s", "%TERM"}},
				{"/bin/reload", []string{"/bin/reload"}},
			},
			Environment: []string{"A=one two", "B=3", "C=x"},
			Settings:    []string{"User=runner", "EnvironmentFile=/etc/run.env", "EnvironmentFile=/var/lib/run/more.env"},
		}, ""},
		"another user":            {Unit{Settings: []string{"User=root"}}, "setting"},
		"a file with variables":   {Unit{Settings: []string{"EnvironmentFile=/tmp/x"}}, "setting"},
		"another program":         {Unit{Commands: []Command{{"/tmp/run", []string{"argv0"}}}}, "program"},
		"an argument as program":  {Unit{Commands: []Command{{"c", []string{"c"}}}}, "program"},
		"another argument":        {Unit{Commands: []Command{{"/bin/run", []string{"argv0", "a", "d"}}}}, "argument"},
		"another after specifier": {Unit{Commands: []Command{{"/bin/pre", []string{"/bin/pre", "--y=1"}}}}, "argument"},
		"a variable more":         {Unit{Environment: []string{"LD_PRELOAD=/tmp/x"}}, "environment"},
		"several": {Unit{
			Commands:    []Command{{"/tmp/run", []string{"argv0"}}, {"/bin/run", []string{"argv0", "d"}}},
			Environment: []string{"B=4"},
		}, "program argument environment"},
		"another value": {Unit{Environment: []string{"B=4"}}, "environment"},
	} {
		t.Run(name, func(t *testing.T) {
			var fields []string
			for _, d := range differs(&test.unit, settingsOf(text)) {
				fields = append(fields, d.field)
			}
			if got := strings.Join(fields, " "); got != test.want {
				t.Errorf("differs in %q, want %q", got, test.want)
			}
		})
	}
}

// With DynamicUser= the service manager makes a user by the name of the unit.
func TestDynamicUser(t *testing.T) {
	u := Unit{Settings: []string{"User=run", "Group=run"}}
	for text, want := range map[string]int{"DynamicUser=yes\n": 0, "DynamicUser=no\n": 2, "": 2} {
		if got := differs(&u, settingsOf(text)); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
