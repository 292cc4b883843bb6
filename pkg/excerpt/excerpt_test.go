package excerpt

import "testing"

func TestOf(t *testing.T) {
	for _, c := range []struct {
		s     string
		limit int
		want  string
	}{
		{"", 4, ""},
		{"four", 4, "four"},
		{"fives", 4, "five…"},
		{"abcé", 4, "abc…"},
		{"abcdé", 5, "abcd…"},
		{"ab€€", 4, "ab…"},
		{"ab€€", 5, "ab€…"},
		{"a😀😀", 4, "a…"},
		{"a😀😀", 5, "a😀…"},
		{"\x80\x80\x80\x80\x80\x80", 4, "\x80\x80\x80\x80…"},
		{"é\xff\xff\xff\xff", 4, "é\xff\xff…"},
	} {
		if got := Of(c.s, c.limit); got != c.want {
			t.Errorf("Of(%q, %d) = %q, want %q", c.s, c.limit, got, c.want)
		}
	}
}

func TestList(t *testing.T) {
	for _, c := range []struct {
		list []Raw
		want string
	}{
		{nil, ""},
		{[]Raw{"a"}, "a"},
		{[]Raw{"a", "b"}, "a, b"},
		{[]Raw{"a", "b", "c", "d"}, "a, b and 2 more"},
	} {
		if got := List(c.list, ", ", 2); got != c.want {
			t.Errorf("List(%q) = %q, want %q", c.list, got, c.want)
		}
	}
}
