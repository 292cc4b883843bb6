package ledger

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/repeat"
)

// childVar makes the test binary the program that is killed; its value is the
// state directory.
const childVar = "EC_VERIFY_TEST_LEDGER"

// killItems is how many items the runs of the child have, of which each batch
// has killBatch.
const killItems, killBatch = 120, 20

// killResult is the result of item i in run, so that data that was never written can be
// recognised when it is read.
func killResult(run int64, i int) Result { return Result((run + int64(i)) % 3) }

// killManifest is what run verifies against: some are forgotten on the way.
func killManifest(run int64) Manifest {
	return Manifest{Tag: fmt.Sprint("boot-", run%(keptInventories+3))}
}

// killInventory are the items of a run: all have the first ones, and each
// manifest has a last one of its own.
func killInventory(run int64) []Item {
	return append(makeItems(killItems), makeItem(killItems+int(run%(keptInventories+3))))
}

// runChild verifies again and again until it is killed, and says after each
// step what is on the disk.
func runChild(dir string) error {
	ctx := context.Background()
	l, err := Open(ctx, dir, Options{})
	if err != nil {
		return err
	}
	if l.SetAside() != "" {
		return fmt.Errorf("set aside as %s", l.SetAside())
	}
	fmt.Println("opened")
	for {
		r, err := l.Begin(ctx, tool)
		if err != nil {
			return err
		}
		items := killInventory(r.Run())
		if err := r.Expect(ctx, Inventory{Tier: Contents, Manifest: killManifest(r.Run()), Items: items}); err != nil {
			return err
		}
		fmt.Println("expected", r.Run())
		for i, item := range items {
			r.Record(Contents, item, Outcome{Result: killResult(r.Run(), i)})
			if i%killBatch != killBatch-1 {
				continue
			}
			if err := r.Flush(ctx); err != nil {
				return err
			}
			fmt.Println("flushed", r.Run(), i+1)
		}
		if err := r.End(ctx, End{Verdict: "verified"}); err != nil {
			return err
		}
		fmt.Println("ended", r.Run())
	}
}

// said is what a child said was on the disk before it was killed.
type said struct {
	run     int64 // the last run that it spoke of
	flushed int   // items of that run
	ended   int64 // the last run that ended
	opened  bool
}

func (s *said) hear(t *testing.T, line string) {
	var run int64
	var n int
	switch word, _, _ := strings.Cut(line, " "); word {
	case "opened":
		s.opened = true
	case "expected":
		fmt.Sscanf(line, "expected %d", &run)
		s.run, s.flushed = run, 0
	case "flushed":
		fmt.Sscanf(line, "flushed %d %d", &run, &n)
		s.run, s.flushed = run, n
	case "ended":
		fmt.Sscanf(line, "ended %d", &run)
		s.ended = run
	default:
		t.Fatalf("the child said %q", line)
	}
}

// mostKills is how often TestKilled kills a program at the most.
const mostKills = 2000

// TestKilled kills a program that writes to a ledger: some before it can have opened
// it, the others a random moment after a random one of its steps, until the kills fell
// before, in the middle of and beside what counts, however fast the machine is. After
// each the ledger is whole, has everything that was said to be on the disk, and nothing
// that was never recorded.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	kills := repeat.Times(t, 20)
	random := rand.New(rand.NewPCG(7, 8))
	dir := t.TempDir()
	var journals, amid, atStart, n int
	for ; n < kills || (journals == 0 || amid == 0 || atStart == 0) && n < mostKills; n++ {
		steps := random.IntN(40)
		if n%10 == 0 {
			dir, steps = t.TempDir(), 0 // being made is a moment to be killed at as well
		}
		heard := killAfter(t, dir, steps, time.Duration(random.Int64N(int64(5*time.Millisecond))))
		if exists(dir + "/" + FileName + journalSuffix) {
			journals++
		}
		if heard.flushed > 0 && heard.ended != heard.run {
			amid++
		}
		if !heard.opened {
			atStart++
		}
		checkKilled(t, dir, heard)
		if t.Failed() {
			t.Fatalf("kill %d after %d steps: %+v", n, steps, heard)
		}
	}
	t.Logf("killed %d times: %d left a journal, %d in the middle of a run, %d before the ledger was open", n, journals, amid, atStart)
	if journals == 0 || amid == 0 || atStart == 0 {
		t.Error("the kills were not spread over what the program does")
	}
}

// killAfter starts the program, kills it when it has spoken of so many steps and some
// time has passed, and returns what it said.
func killAfter(t *testing.T, dir string, steps int, more time.Duration) said {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var heard said
	lines := bufio.NewScanner(out)
	for ; steps > 0 && lines.Scan(); steps-- {
		heard.hear(t, lines.Text())
	}
	timer := time.AfterFunc(more, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		heard.hear(t, lines.Text())
	}
	if err := cmd.Wait(); err == nil || steps > 0 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return heard
}

// checkKilled holds the ledger to what the child said.
func checkKilled(t *testing.T, dir string, heard said) {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Close()
	if l.SetAside() != "" {
		t.Errorf("the ledger was damaged: %s", l.SetAside())
		return
	}
	runs, err := l.Runs(t.Context(), KeptRuns)
	if err != nil {
		t.Error(err)
		return
	}
	if heard.run > 0 && (len(runs) == 0 || runs[0].ID < heard.run) {
		t.Errorf("run %d is forgotten: %+v", heard.run, runs[:min(1, len(runs))])
	}
	for _, run := range runs {
		if run.ID == heard.ended && run.End == nil {
			t.Errorf("the end of run %d is forgotten", run.ID)
		}
	}
	states, err := l.States(t.Context())
	state := states[Contents]
	if err != nil {
		t.Error(err)
		return
	}
	if heard.run > 0 && len(state.Inventory.Items) != killItems+1 {
		t.Errorf("the inventory has %d items", len(state.Inventory.Items))
	}
	for i, item := range makeItems(killItems) {
		r := state.Records[item.Key()]
		if i < heard.flushed && r.Last.Run < heard.run {
			t.Errorf("item %d: run %d said it was on the disk, it has %+v", i, heard.run, r)
			return
		}
		for _, c := range []Check{r.Last, r.Settled} {
			if c.Done() && (c.Result != killResult(c.Run, i) || c.Manifest != killManifest(c.Run)) {
				t.Errorf("item %d: nobody recorded %+v", i, c)
				return
			}
		}
	}
}
