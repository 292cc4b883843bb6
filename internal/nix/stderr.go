package nix

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
)

const (
	maxLine = 64 << 10
	maxTail = 64 << 10
)

// tail keeps the last lines added, up to maxTail bytes.
type tail struct {
	lines []string
	size  int
}

func (t *tail) add(line string) {
	if len(line) > maxTail/2 {
		line = strings.ToValidUTF8(line[:maxTail/2], "") + "…"
	}
	t.lines = append(t.lines, line)
	t.size += len(line) + 1
	drop := 0
	for t.size > maxTail {
		t.size -= len(t.lines[drop]) + 1
		drop++
	}
	t.lines = t.lines[drop:]
}

func (t *tail) String() string { return strings.Join(t.lines, "\n") }

// lineWriter splits its input into lines without their ends and passes them on. A
// line longer than maxLine is truncated.
type lineWriter struct {
	line func(string)
	buf  []byte
	cut  bool // the rest of the line is dropped
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, rest, end := bytes.Cut(p, []byte("\n"))
		p = rest
		if !w.cut {
			room := maxLine - len(w.buf)
			if len(piece) > room {
				piece, w.cut = piece[:room], true
			}
			w.buf = append(w.buf, piece...)
		}
		if end {
			w.flush()
		}
	}
	return n, nil
}

// flush passes on a last line without an end.
func (w *lineWriter) flush() {
	w.line(string(w.buf))
	w.buf, w.cut = w.buf[:0], false
}

func (w *lineWriter) close() {
	if len(w.buf) > 0 {
		w.flush()
	}
}

// printable returns s without terminal sequences and control characters. Tabs
// become blanks.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += escapeLength(s[i:])
			continue
		}
		j := strings.IndexByte(s[i:], 0x1b)
		if j < 0 {
			j = len(s) - i
		}
		for _, r := range strings.ToValidUTF8(s[i:i+j], "\ufffd") {
			switch {
			case r == '\t':
				b.WriteByte(' ')
			case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
				// Cf contains the marks that reverse the direction of writing.
			default:
				b.WriteRune(r)
			}
		}
		i += j
	}
	return b.String()
}

// escapeLength returns the length of the terminal sequence that s begins with:
// CSI ("\x1b[…m"), OSC ("\x1b]…\a" or "…\x1b\\"), or two bytes.
func escapeLength(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	}
	return 2
}

var errOutput = errors.New("it printed more than it should")

// limitedBuffer rejects writes beyond its limit.
type limitedBuffer struct {
	buf   bytes.Buffer // not embedded: its ReadFrom would bypass Write
	limit int
	over  bool // something was refused
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.limit {
		b.over = true
		return 0, errOutput
	}
	return b.buf.Write(p)
}
