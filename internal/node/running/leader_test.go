package running

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// With this variable a test is a process of which the first thread ends, and another
// one waits for the end of standard input.
const leaderless = "RUNNING_TEST_LEADERLESS"

func init() {
	if os.Getenv(leaderless) == "" {
		return
	}
	go func() {
		os.Stdout.WriteString("\n")
		os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // until its end
		os.Exit(0)
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // of this thread, which is the first
}

// A process whose first thread has ended runs in the others: /proc has nothing of it
// by its own number.
func TestLeaderless(t *testing.T) {
	cmd := exec.Command(os.Args[0]) //nolint:gosec,noctx // this test
	cmd.Env = append(os.Environ(), leaderless+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := bufio.NewReader(out).ReadByte(); err != nil {
		t.Fatal(err)
	}
	own := proc + "/" + strconv.Itoa(cmd.Process.Pid)
	for range 1000 { // the thread is about to end
		if _, err := os.Readlink(own + "/exe"); isAbsent(err) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	names, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir(own + "/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if _, err := os.Readlink(proc + "/" + thread.Name() + "/exe"); err == nil && slices.Contains(names, thread.Name()) {
			return
		}
	}
	t.Error("no thread of it is looked at")
}
