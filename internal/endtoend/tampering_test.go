package endtoend

import "testing"

// TestMounts: what is mounted over a part of the closure is not the store's,
// even where a hash of it is the release's.
func TestMounts(t *testing.T) {
	m := startReleased(t)
	path := m.path("program-01-1.1")
	program := path + "/bin/program-01"
	empty := m.path("oddities-1") + "/sizes/0"
	mounted := func(name, at, what string) {
		t.Run(name, func(t *testing.T) {
			m.Run("mount", "--bind", what, at)
			defer m.Run("umount", at)
			m.verify().expect(t, "inconclusive", 4, "mounted-over "+at)
		})
	}
	m.Run("cp", "-a", path, "/root/copy")
	mounted("a directory over its like", path, "/root/copy")
	mounted("a file over its like", program, "/root/copy/bin/program-01")
	// Its size is 0, so that it hashes as the empty file that it hides.
	mounted("a file of /proc over an empty one", empty, "/proc/version")
	t.Run("other contents", func(t *testing.T) {
		m.Run("mount", "-t", "tmpfs", "-o", "mode=0555", "none", path)
		defer m.Run("umount", path)
		m.verify().expect(t, "drifted", 1, "mounted-over "+path,
			"disk-altered "+path+" .program:removed bin:removed bin/program-01:removed")
	})
	t.Run("the whole store, and beside it", func(t *testing.T) {
		m.Run("mount", "--bind", "/nix/store", "/nix/store")
		m.Run("sh", "-c", "mkdir /nix/store/.other && mount --bind /root/copy /nix/store/.other")
		m.verify().expect(t, "verified", 0)
	})
}
