package endtoend

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// drawsEnv asks for more draws of each class of change than a test run of every day
	// can take, seedEnv for other ones.
	drawsEnv = "EC_VERIFY_MACHINE_DRAWS"
	seedEnv  = "EC_VERIFY_MACHINE_SEED"

	// atOnce is how many changes a machine has at the same time.
	atOnce = 32
)

func numberOf(t *testing.T, env string, otherwise int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// draw is a change of a class, with its own name.
type draw struct {
	*changeClass
	token string
}

func (d draw) of(text string) string { return strings.ReplaceAll(text, "@", d.token) }

// changed judges the machine by the tier machine alone.
func (m *machine) changed() answer {
	m.t.Helper()
	return m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,live,contents")
}

// TestMachineRandom: changes of all classes, drawn at random and several at once, are
// all found with their causes, and nothing else is. Of many draws each host has a part.
func TestMachineRandom(t *testing.T) {
	t.Parallel()
	draws, seed := numberOf(t, drawsEnv, 1), numberOf(t, seedEnv, 16)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var deck []draw
	for i := range changeClasses {
		for range draws {
			deck = append(deck, draw{&changeClasses[i], fmt.Sprintf("%06x", random.IntN(1<<24))})
		}
	}
	random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	hosts := min(2*draws, 4)
	var found, rounds atomic.Int64
	begun := time.Now()
	t.Run("hosts", func(t *testing.T) {
		for part := range slices.Chunk(deck, (len(deck)+hosts-1)/hosts) {
			t.Run("host", func(t *testing.T) {
				t.Parallel()
				m := startReleased(t, "nftables")
				m.askMachine("etc", "units", "code", "sockets", "mounts", "firewall")
				m.Run("useradd", "--create-home", "--system", "visitor")
				m.Run("sh", "-c", "systemctl start systemd-hostnamed; systemctl daemon-reload")
				m.changed().expect(t, "verified", 0)
				for part := slices.Clone(part); len(part) > 0; rounds.Add(1) {
					var batch []draw
					batch, part = atOnceOf(part)
					found.Add(int64(m.judge(batch)))
				}
				m.changed().expect(t, "verified", 0)
			})
		}
	})
	t.Logf("%d classes, %d draws of each with seed %d: %d of %d found in %d rounds, %s",
		len(changeClasses), draws, seed, found.Load(), len(deck), rounds.Load(), time.Since(begun).Round(time.Second))
}

// atOnceOf chooses changes that can be made at once, those first that exclude most of the
// others, which would be left to the end.
func atOnceOf(part []draw) (batch, rest []draw) {
	excluded := make(map[*changeClass]int)
	for _, d := range part {
		if _, known := excluded[d.changeClass]; known {
			continue
		}
		for _, other := range part {
			if d.excludes(other.changeClass) {
				excluded[d.changeClass]++
			}
		}
	}
	slices.SortStableFunc(part, func(a, b draw) int { return cmp.Compare(excluded[b.changeClass], excluded[a.changeClass]) })
	for _, d := range part {
		if len(batch) < atOnce && !slices.ContainsFunc(batch, func(b draw) bool { return b.excludes(d.changeClass) }) {
			batch = append(batch, d)
		} else {
			rest = append(rest, d)
		}
	}
	return batch, rest
}

// judge makes the changes, verifies, and undoes them. It returns how many were found.
func (m *machine) judge(batch []draw) (found int) {
	m.t.Helper()
	var names, want []string
	slices.SortStableFunc(batch, func(a, b draw) int { return cmp.Compare(a.late(), b.late()) })
	var do, undo []string
	for _, d := range batch {
		do, undo = append(do, d.of(d.do)), append(undo, d.of(d.undo))
		names = append(names, d.name+" "+d.token)
		for _, cause := range d.causes {
			want = append(want, d.of(cause))
		}
	}
	slices.Reverse(undo)
	m.Run("sh", "-euc", atOneReload(do))
	a := m.changed()
	m.Run("sh", "-euc", atOneReload(undo))
	got := a.causes()
	for _, d := range batch {
		missing := slices.DeleteFunc(slices.Clone(d.causes), func(c string) bool {
			return slices.ContainsFunc(got, func(g string) bool { return isCause(d.of(c), g) })
		})
		if len(missing) > 0 {
			m.t.Errorf("%s %s: not found: %s", d.name, d.token, d.of(strings.Join(missing, ", ")))
			continue
		}
		found++
	}
	more := slices.DeleteFunc(got, func(g string) bool {
		return slices.ContainsFunc(want, func(c string) bool { return isCause(c, g) })
	})
	if len(more) > 0 || a.Verdict != "drifted" && a.Verdict != "inconclusive" {
		m.t.Errorf("with %s: %s, and found beside them: %s", strings.Join(names, ", "), a.Verdict, strings.Join(more, ", "))
	}
	return found
}

// late orders changes: 1 for one that is done after all else.
func (d draw) late() int {
	if slices.Contains(strings.Fields(d.key), "last") {
		return 1
	}
	return 0
}

// atOneReload returns what has the service manager read its units once for all of some
// commands.
func atOneReload(all []string) string {
	before, after, reloads := running, "", false
	for _, text := range all {
		first, rest, has := strings.Cut(text, reload)
		before += first + "\n"
		after += rest + "\n"
		reloads = reloads || has
	}
	if reloads {
		before += reload + "\n"
	}
	return before + after
}

// isCause reports whether a finding is what a class has as a cause, which ends in a star
// where the name goes on.
func isCause(cause, got string) bool {
	begin, open := strings.CutSuffix(cause, "*")
	return got == cause || open && strings.HasPrefix(got, begin)
}
