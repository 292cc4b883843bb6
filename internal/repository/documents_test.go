package repository

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
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

// TestPackagesAreDrawn: the table of docs/design.md has every package, and no
// other.
func TestPackagesAreDrawn(t *testing.T) {
	page := documents(t)["docs/design.md"]
	drawn := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:cmd|internal|pkg)/[^`]+)` \\|").FindAllStringSubmatch(page, -1) {
		drawn[row[1]] = true
	}
	there := map[string]bool{}
	for _, top := range []string{"cmd", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && e.Name() == "testdata" {
				return fs.SkipDir
			}
			if err == nil && strings.HasSuffix(name, ".go") {
				there[strings.TrimPrefix(filepath.Dir(name), root+"/")] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range there {
		if !drawn[name] {
			t.Errorf("docs/design.md does not say what %s is", name)
		}
	}
	for name := range drawn {
		if !there[name] {
			t.Errorf("docs/design.md has %s, which is no package", name)
		}
	}
}
