package nar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// record encodes one record of getdents64.
func record(name string, typ uint8) []byte {
	b := make([]byte, 19, 24+len(name))
	b = append(b, name...)
	b = append(b, 0)
	for len(b)%8 != 0 {
		b = append(b, 0xee) // the kernel does not clear it
	}
	binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
	b[18] = typ
	return b
}

func TestAppendNames(t *testing.T) {
	var records []byte
	for _, name := range []string{"a", ".", "..", "..foo", "...", "\xff\n", "1234", "12345"} {
		records = append(records, record(name, unix.DT_REG)...)
	}
	all := append(records, record("d", unix.DT_DIR)...)
	got, _, err := appendNames([]dirent{{name: "before"}}, all, span{})
	must(t, err)
	want := []dirent{{name: "before"}}
	for _, name := range []string{"a", "..foo", "...", "\xff\n", "1234", "12345"} {
		want = append(want, dirent{name: name, typ: unix.DT_REG})
	}
	if want = append(want, dirent{name: "d", typ: unix.DT_DIR}); !slices.Equal(got, want) {
		t.Errorf("appendNames = %v; want %v", got, want)
	}
	got, size, err := appendNames(nil, all, span{after: "1234", last: "a"})
	must(t, err)
	if want := []dirent{{name: "a", typ: unix.DT_REG}, {name: "12345", typ: unix.DT_REG}}; !slices.Equal(got, want) {
		t.Errorf("appendNames after 1234 up to a = %v; want %v", got, want)
	}
	// What a NAR needs for them does not depend on how many are wanted at a time.
	if _, whole, err := appendNames(nil, all, span{after: "1234"}); err != nil || whole != size {
		t.Errorf("appendNames after 1234: %d bytes, %v; want %d", whole, err, size)
	}
}

func TestAppendNamesRefuses(t *testing.T) {
	good := record("name", unix.DT_REG)
	length := func(n uint16) []byte {
		b := bytes.Clone(good)
		binary.NativeEndian.PutUint16(b[16:], n)
		return b
	}
	tests := map[string][]byte{
		"cut in the header":  good[:10],
		"cut in the name":    good[:len(good)-1],
		"length zero":        length(0), // would be read for ever
		"length of a header": length(19),
		"length too large":   length(uint16(len(good) + 1)),
		"empty name":         record("", unix.DT_REG),
		"no end of the name": bytes.ReplaceAll(good, []byte("name\x00"), []byte("name!")),
		"second record":      append(bytes.Clone(good), 0),
	}
	for name, records := range tests {
		if got, _, err := appendNames(nil, records, span{}); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: appendNames = %v, %v; want EIO", name, got, err)
		}
	}
}

func TestSortNames(t *testing.T) {
	names := []dirent{{name: "b"}, {name: "a/"}, {name: "a"}, {name: "\x80"}, {name: "B"}}
	must(t, sortNames(names))
	if want := []dirent{{name: "B"}, {name: "a"}, {name: "a/"}, {name: "b"}, {name: "\x80"}}; !slices.Equal(names, want) {
		t.Errorf("sortNames: %v; want %v", names, want)
	}
	if err := sortNames([]dirent{{name: "b"}, {name: "a"}, {name: "b"}}); !errors.Is(err, ErrChanged) {
		t.Errorf("sortNames with one name twice = %v; want ErrChanged", err)
	}
}

// A child process must not inherit what a walk has open.
func TestOpenIsCloseOnExec(t *testing.T) {
	path := place(t, dir{"f": file{}})
	fd, err := NewHasher(Options{}).open(unix.AT_FDCWD, path, unix.O_DIRECTORY)
	must(t, err)
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("F_GETFD = %#x, %v; want FD_CLOEXEC", flags, err)
	}
}

func FuzzAppendNames(f *testing.F) {
	f.Add(record("name", unix.DT_REG))
	f.Add(append(record("..", unix.DT_DIR), record("..foo", unix.DT_LNK)...))
	f.Add(record("", 0))
	f.Fuzz(func(t *testing.T, records []byte) {
		names, _, err := appendNames(nil, records, span{})
		for _, n := range names {
			if n.name == "" || n.name == "." || n.name == ".." || bytes.IndexByte([]byte(n.name), 0) >= 0 {
				t.Errorf("name %q", n.name)
			}
		}
		if err == nil && len(names) > len(records)/20 {
			t.Errorf("%d names from %d bytes", len(names), len(records))
		}
	})
}
