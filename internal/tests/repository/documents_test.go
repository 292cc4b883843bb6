package repository

import (
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents are the repository's Markdown files, by name relative to root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[strings.TrimPrefix(name, root+"/")] = string(data)
		}
	}
	return texts
}

var (
	// link is a link to a place in this repository: its file and its heading.
	link    = regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]+))?\)`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`]*`")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
)

// anchor is what forges name a heading by.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// TestLinks: no document points at what is not there, and each can be found from
// the README.
func TestLinks(t *testing.T) {
	texts := documents(t)
	anchors := map[string]map[string]bool{}
	for name, text := range texts {
		anchors[name] = map[string]bool{}
		for _, h := range heading.FindAllStringSubmatch(text, -1) {
			anchors[name][anchor(h[1])] = true
		}
	}
	reached := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		for _, l := range link.FindAllStringSubmatch(code.ReplaceAllString(texts[name], ""), -1) {
			to := name
			if l[1] != "" {
				to = path.Join(path.Dir(name), l[1])
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, l[0])
				continue
			}
			if l[2] != "" && !anchors[to][l[2]] {
				t.Errorf("%s: %s has no such heading", name, l[0])
			}
			if texts[to] != "" {
				follow(to)
			}
		}
	}
	follow("README.md")
	for name := range texts {
		if !reached[name] && name != "CHANGELOG.md" {
			t.Errorf("%s: no link leads here from README.md", name)
			follow(name)
		}
	}
}

// TestPackagesAreDrawn: the table of docs/design.md has every package, no other, and
// the imports of each. There "pkg" is any package of pkg, and internal/ is left out.
func TestPackagesAreDrawn(t *testing.T) {
	drawn := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `((?:cmd|internal|pkg)/[^`]+)` \\|.*\\| ([^|]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(documents(t)["docs/design.md"], -1) {
		drawn[m[1]] = m[2]
	}
	there := importsOfPackages(t)
	for name, imports := range there {
		switch want, ok := drawn[name]; {
		case !ok:
			t.Errorf("docs/design.md does not say what %s is", name)
		case want != imports && want != "everything":
			t.Errorf("docs/design.md: %s imports %s, not %s", name, imports, want)
		}
	}
	for name := range drawn {
		if _, ok := there[name]; !ok {
			t.Errorf("docs/design.md has %s, which is no package", name)
		}
	}
}

// importsOfPackages returns the packages of this module, and what each imports of it
// outside its tests, as docs/design.md writes it.
func importsOfPackages(t *testing.T) map[string]string {
	t.Helper()
	const module = "every.channel/ec-verify/"
	found := map[string]map[string]bool{}
	for _, top := range []string{"cmd", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() && e.Name() == "testdata" {
				return cmp.Or(err, fs.SkipDir)
			}
			if !strings.HasSuffix(name, ".go") {
				return nil
			}
			dir := strings.TrimPrefix(filepath.Dir(name), root+"/")
			if found[dir] == nil {
				found[dir] = map[string]bool{}
			}
			if strings.HasSuffix(name, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, i := range file.Imports {
				imported, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
				switch {
				case !ok:
				case strings.HasPrefix(imported, "pkg/") && !strings.HasPrefix(dir, "pkg/"):
					found[dir]["pkg"] = true
				case strings.HasPrefix(imported, "pkg/"):
					found[dir]["`"+imported+"`"] = true
				default:
					found[dir]["`"+strings.TrimPrefix(imported, "internal/")+"`"] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	imports := map[string]string{}
	for name, set := range found {
		names := slices.SortedFunc(maps.Keys(set), func(a, b string) int {
			// "pkg", the only one without quotes, comes first.
			return cmp.Or(strings.Count(a, "`")-strings.Count(b, "`"), cmp.Compare(strings.Trim(a, "`"), strings.Trim(b, "`")))
		})
		imports[name] = cmp.Or(strings.Join(names, ", "), "none")
	}
	return imports
}
