package running

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// Command is a command of a service, as the service manager has loaded it.
type Command struct {
	Program   string
	Arguments []string // from its name on
}

// preloading are the variables that make programs load the files that they name.
var preloading = []string{
	"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH", "GCONV_PATH", "GLIBC_TUNABLES", "GIO_EXTRA_MODULES", "OPENSSL_CONF", "OPENSSL_MODULES",
	"BASH_ENV", "ENV", "PERL5LIB", "PERL5OPT", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH",
	"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "LUA_PATH", "LUA_CPATH", "LUA_INIT",
}

// programDirs are the parents of the program directories in the environment that a service
// manager gives to the units that it starts.
var programDirs = []string{"/nix", "/run/current-system", "/run/wrappers", "/etc/profiles", "/bin", "/sbin", "/usr"}

// isPreloading reports whether a variable makes programs run something else.
func isPreloading(name, value string) bool {
	if name == "PATH" {
		return slices.ContainsFunc(strings.Split(value, ":"), func(at string) bool {
			return !slices.ContainsFunc(programDirs, func(dir string) bool { return beneath(path.Clean(at), dir) })
		})
	}
	return slices.Contains(preloading, name) || strings.HasPrefix(name, "BASH_FUNC_")
}

// checkManager finds variables that the service manager gives to everything it starts,
// other than the accepted system's.
func (l *look) checkManager(environment []string) error {
	var says []string // in the accepted system
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		if !isPreloading(name, value) {
			continue
		}
		if says == nil {
			text, err := l.m.ofToplevel("/etc/systemd/system.conf", maxUnitFile)
			if err != nil && !isAbsent(err) {
				return err
			}
			says = strings.Fields(strings.ReplaceAll(unquote.Replace(string(text)), "DefaultEnvironment=", " "))
		}
		if slices.Contains(says, variable) {
			continue
		}
		l.find(report.Finding{
			Cause: report.UnitAltered, Path: "the service manager", Field: name,
			Want: "no variable that changes which code programs run", Got: value,
		})
	}
	return nil
}

// checkEffect compares what the service manager would run for a unit with the unit's
// files: settings read from a file that was restored afterwards are in neither.
func (l *look) checkEffect(u *Unit) {
	if len(u.Commands) == 0 && len(u.Environment) == 0 && len(u.Settings) == 0 {
		return
	}
	var text strings.Builder
	for _, name := range append([]string{u.Fragment}, u.DropIns...) {
		data, _, err := l.m.Store.ReadOutside(name, maxUnitFile)
		if err != nil {
			// A removed or changed file is reported for itself, and at the next look.
			if !isAbsent(err) {
				l.unseen(name, err)
			}
			return
		}
		text.Write(data)
		text.WriteByte('\n')
	}
	// Each: an exception may allow the first one.
	for _, d := range differs(u, settingsOf(text.String())) {
		l.find(report.Finding{
			Cause: report.UnitAltered, Path: "unit " + u.Name, Field: d.field,
			Want: "the value in the unit's files", Got: d.got,
		})
	}
}

// settings are the settings in a unit's files that determine what it runs.
type settings struct {
	commands    []string
	environment []string
	others      []string // as [Unit.Settings]
	dynamic     bool     // the service manager makes a user for it
}

// settingsOf reads the text of a unit's files.
func settingsOf(text string) settings {
	var s settings
	for key, value := range assignments(text) {
		switch {
		case strings.HasPrefix(key, "Exec"):
			s.commands = append(s.commands, value)
		case key == "Environment":
			s.environment = append(s.environment, value)
		case key == "EnvironmentFile":
			s.others = append(s.others, key+"="+simplified(unquote.Replace(strings.TrimPrefix(value, "-"))))
		case key == "User" || key == "Group":
			s.others = append(s.others, key+"="+unquote.Replace(value))
		case key == "DynamicUser":
			s.dynamic = slices.Contains([]string{"1", "y", "yes", "t", "true", "on"}, strings.ToLower(value))
		}
	}
	return s
}

// assignments yields the keys in a unit's files, each with its value. It implements as
// much of systemd.syntax(7) as is needed to split words again.
func assignments(text string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		var pending string
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" && pending == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue
			}
			if more, goesOn := strings.CutSuffix(line, `\`); goesOn {
				pending += more + " "
				continue
			}
			key, value, ok := strings.Cut(pending+line, "=")
			pending = ""
			if ok && !yield(strings.TrimSpace(key), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// difference is a setting of a unit in effect that differs from the unit's files, and its
// value in effect.
type difference struct{ field, got string }

// differs returns the differences of a unit.
func differs(u *Unit, s settings) []difference {
	var out []difference
	var programs, words []string
	escaped := false
	for _, command := range s.commands {
		escaped = escaped || strings.Contains(command, `\`)
		first := true
		for _, word := range strings.Fields(unquote.Replace(command)) {
			named := strings.TrimLeft(word, "@-:+!|")
			if first {
				programs = append(programs, simplified(named))
				words = append(words, simplified(named))
			}
			first = word == ";"
			words = append(words, word, named)
		}
	}
	for _, c := range u.Commands {
		if !slices.ContainsFunc(programs, func(p string) bool {
			return matches(p, c.Program) || !path.IsAbs(p) && matches(p, path.Base(c.Program))
		}) {
			arguments := nar.Hash(sha256.Sum256([]byte(strings.Join(c.Arguments, "\x00"))))
			out = append(out, difference{"program", fmt.Sprintf("%s (with arguments %s)", c.Program, arguments)})
			continue
		}
		for _, word := range strings.Fields(unquote.Replace(strings.Join(c.Arguments, " "))) {
			if !escaped && !slices.ContainsFunc(words, func(w string) bool { return matches(w, word) }) {
				out = append(out, difference{"argument", fmt.Sprintf("%s of %s", word, c.Program)})
			}
		}
	}
	for _, setting := range u.Settings {
		named := s.dynamic && !strings.HasPrefix(setting, "EnvironmentFile=")
		if !named && !slices.ContainsFunc(s.others, func(w string) bool { return matches(w, setting) }) {
			out = append(out, difference{"setting", setting})
		}
	}
	settings := strings.Join(s.environment, " ")
	if strings.Contains(settings, `\`) {
		return out // an escaped value may be anything
	}
	environment := strings.Fields(unquote.Replace(settings))
	for _, variable := range u.Environment {
		for _, word := range strings.Fields(unquote.Replace(variable)) {
			if !slices.ContainsFunc(environment, func(w string) bool { return matches(w, word) }) {
				out = append(out, difference{"environment", word})
			}
		}
	}
	return out
}

// unquote removes quotes and backslashes, so that a setting can be compared word by word.
var unquote = strings.NewReplacer(`"`, "", `'`, "", `\`, "")

// matches reports whether systemd can have made word from pattern, a word of a unit's
// file. A specifier in it, such as %i, may stand for anything.
func matches(pattern, word string) bool {
	if !strings.Contains(pattern, "%") {
		return pattern == word
	}
	for i := 0; ; i++ {
		at := strings.IndexByte(pattern, '%')
		if at < 0 || at+1 >= len(pattern) {
			return strings.HasSuffix(word, pattern)
		}
		literal := pattern[:at]
		next := strings.Index(word, literal)
		if next < 0 || i == 0 && next > 0 {
			return false
		}
		word, pattern = word[next+len(literal):], pattern[at+2:]
	}
}
