package main

import (
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// exampleTag is the tag that examples have.
const exampleTag = "boot-v2026.02.28"

// builtImages are the names of the images that hack/build-release builds for exampleTag.
func builtImages(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("../../hack/build-release", "--print-configurations").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, configuration := range strings.Fields(string(out)) {
		switch {
		case strings.HasSuffix(configuration, "-netboot"):
			names = append(names, configuration+"-"+exampleTag+".tar.gz")
		case strings.HasSuffix(configuration, "-iso"):
			names = append(names, configuration+"-"+exampleTag+".iso")
		}
	}
	if len(names) != 2 {
		t.Fatalf("hack/build-release makes %q", names)
	}
	return names
}

// exampleLines are the command lines of a command's examples, in words.
func exampleLines(example string) [][]string {
	var lines [][]string
	for line := range strings.Lines(strings.ReplaceAll(example, "\\\n", " ")) {
		for _, end := range []string{" | ", " > ", " >", " && ", " # ", " || "} {
			line, _, _ = strings.Cut(line, end)
		}
		words := strings.Fields(line)
		if at := slices.Index(words, "ec-verify"); at >= 0 {
			for i := range words {
				words[i] = strings.Trim(words[i], `'"`)
			}
			lines = append(lines, words[at+1:])
		}
	}
	return lines
}

// TestExamples: every example of --help can be parsed, its arguments are as many as
// the command takes, and what it says of images is what is built.
func TestExamples(t *testing.T) {
	built := builtImages(t)
	matches := func(pattern string) (n int) {
		for _, name := range built {
			if ok, err := path.Match(pattern, name); err != nil {
				t.Errorf("%s: %v", pattern, err)
			} else if ok {
				n++
			}
		}
		return n
	}
	count := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, words := range exampleLines(cmd.Example) {
			count++
			line := strings.Join(words, " ")
			found, rest, err := newRootCommand(terminal.New(io.Discard, io.Discard)).Find(words)
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			for _, name := range []string{"asset", "tarball"} {
				f := found.Flags().Lookup(name)
				if f == nil || !f.Changed {
					continue
				}
				if pattern := strings.Trim(f.Value.String(), "[]"); matches(pattern) != 1 {
					t.Errorf("%s: %s matches %d of %q", line, pattern, matches(pattern), built)
				}
			}
			for _, word := range words {
				if base := path.Base(word); strings.HasPrefix(base, "ec-runner-") && path.Ext(base) != "" && !strings.Contains(base, "*") && strings.Contains(base, exampleTag) && !slices.Contains(built, base) {
					t.Errorf("%s: nothing is built that is called %s", line, base)
				}
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand(terminal.New(io.Discard, io.Discard)))
	if count < 30 {
		t.Errorf("only %d examples were found", count)
	}
	if n := matches(newRootCommand(terminal.New(io.Discard, io.Discard)).Name()); n != 0 {
		t.Errorf("everything matches")
	}
	// The default that is meant for the one bundle.
	stage, _, err := newRootCommand(terminal.New(io.Discard, io.Discard)).Find([]string{"netboot", "stage"})
	if err != nil || matches(stage.Flags().Lookup("tarball").DefValue) != 1 {
		t.Errorf("the default of --tarball matches no bundle that is built: %v", err)
	}
}
