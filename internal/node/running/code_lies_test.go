package running

import (
	"slices"
	"strings"
	"testing"
)

// A process with mounts of its own may have the release's file under another name; and
// another file under the release's.
func TestCodeLies(t *testing.T) {
	h := newHost(t)
	program := string(shell) + "/bin/sh"
	h.m.Hashed = h.m.Paths
	h.write("/opt/tool", "tool", 0o755)
	id := func(name string) fileID {
		t.Helper()
		got, err := identify(h.root + name)
		h.must(err)
		return got
	}
	for _, c := range []struct {
		name string
		id   fileID
		want string
	}{
		{program, id(program), ""},
		{"/mnt" + program, id(program), ""},
		{strings.Repeat("/x", maxNames-1) + program, id(program), ""},
		{strings.Repeat("/x", maxNames) + program, id(program), strings.Repeat("/x", maxNames) + program + ":replaced"},
		{program, id("/opt/tool"), program + ":replaced"},
		{"/mnt" + program, id("/opt/tool"), "/mnt" + program + ":replaced"},
		{"/mnt/opt/tool", id("/opt/tool"), "/opt/tool"},
		{"/tool", id("/opt/tool"), "/tool:replaced"},
	} {
		l := h.m.newLook()
		judged := (&code{look: l}).judge(c.name, c.id, "runs")
		var got []string
		for _, f := range l.findings {
			got = append(got, strings.TrimSuffix(f.Path+":"+f.Field, ":"))
		}
		want := []string{c.want}
		if c.want == "" {
			want = nil
		}
		if !slices.Equal(got, want) || judged != (want == nil) {
			t.Errorf("%s: got %q, %t", c.name, got, judged)
		}
	}
}
