package nix

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLimit: nix gets no more than it may, and leaves no core dump, which a
// program of the machine outside would write to its disk.
func TestLimit(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = cmd.Wait()
	}()
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	core.Cur, core.Max = min(core.Max, 1), min(core.Max, 1)
	s := sandboxSpec{CPU: 10, Memory: 1 << 30}
	if err := s.limit(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for resource, want := range map[int]unix.Rlimit{
		unix.RLIMIT_CPU:  {Cur: 10, Max: 11},
		unix.RLIMIT_AS:   {Cur: 1 << 30, Max: 1 << 30},
		unix.RLIMIT_CORE: core,
	} {
		var got unix.Rlimit
		if err := unix.Prlimit(cmd.Process.Pid, resource, nil, &got); err != nil || got != want {
			t.Errorf("resource %d: %+v, %v, want %+v", resource, got, err, want)
		}
	}
}
