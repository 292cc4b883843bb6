package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The encoder stands for a publisher of live video: x264 at 720p on all
// processors, from a source that costs little.
const (
	frameRate = 30
	source    = "testsrc2=size=1280x720:rate=30"
	settle    = 3 * time.Second // until it is under way
)

// encoder is ffmpeg at work.
type encoder struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu    sync.Mutex
	looks []look
}

// look is what ffmpeg said of its progress at a time.
type look struct {
	at             time.Time
	frame, dropped int64
}

// startEncoder starts an encoder in real time, or as fast as it goes.
func startEncoder(ctx context.Context, preset string, realTime bool) (*encoder, error) {
	args := []string{"-hide_banner", "-nostdin", "-loglevel", "error"}
	if realTime {
		args = append(args, "-re")
	}
	args = append(args, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", preset, "-tune", "zerolatency",
		"-stats_period", "0.25", "-progress", "pipe:1", "-f", "null", "-")
	e := &encoder{cmd: exec.CommandContext(ctx, "ffmpeg", args...), exited: make(chan struct{})}
	e.cmd.Stderr = os.Stderr
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		var now look
		for lines := bufio.NewScanner(out); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			switch key {
			case "frame":
				now.frame = n
			case "drop_frames":
				now.dropped = n
			case "progress":
				now.at = time.Now()
				e.mu.Lock()
				e.looks = append(e.looks, now)
				e.mu.Unlock()
			}
		}
		_ = e.cmd.Wait() // that a signal ended it is no error
		close(e.exited)
	}()
	return e, sleep(ctx, settle)
}

// stop ends the encoder.
func (e *encoder) stop() {
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	<-e.exited
}

// encoded is what was encoded in a span of time.
type encoded struct {
	FPS     float64
	Dropped int64
	// Late is how much later than in the middle of all looks the latest frame
	// was; in real time only.
	Late time.Duration
}

// add appends the frames encoded since a time.
func (e *encoder) add(to *[]encoded, begin time.Time) error {
	got, err := e.between(begin, time.Now())
	if err != nil {
		return err
	}
	*to = append(*to, got)
	return nil
}

// between returns what was encoded from one time to another.
func (e *encoder) between(from, to time.Time) (encoded, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	looks := slices.DeleteFunc(slices.Clone(e.looks), func(l look) bool { return l.at.Before(from) || l.at.After(to) })
	if len(looks) < 8 {
		return encoded{}, fmt.Errorf("ffmpeg spoke %d times in %s", len(looks), to.Sub(from))
	}
	first, last := looks[0], looks[len(looks)-1]
	var late []time.Duration
	for _, l := range looks {
		due := time.Duration(l.frame-first.frame) * time.Second / frameRate
		late = append(late, l.at.Sub(first.at)-due)
	}
	slices.Sort(late)
	return encoded{
		FPS:     float64(last.frame-first.frame) / last.at.Sub(first.at).Seconds(),
		Dropped: last.dropped - first.dropped,
		Late:    late[len(late)-1] - late[len(late)/2],
	}, nil
}

// needEncoder installs ffmpeg where it is not there.
func needEncoder(ctx context.Context) error {
	if _, err := exec.LookPath("ffmpeg"); err == nil {
		return nil
	}
	say("installing ffmpeg")
	cmd := exec.CommandContext(ctx, "sh", "-euc", `apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null`)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return errors.New("ffmpeg is not there and could not be installed: it takes root on Debian")
	}
	return nil
}

// presets are x264's, the slowest first.
var presets = []string{"slower", "slow", "medium", "fast", "faster", "veryfast", "superfast", "ultrafast"}

// choosePreset returns the slowest preset that leaves a fifth of the time when
// nothing else runs.
func choosePreset(ctx context.Context) (preset string, speed float64, err error) {
	for _, preset := range presets {
		e, err := startEncoder(ctx, preset, false)
		if err != nil {
			return "", 0, err
		}
		begin := time.Now()
		err = sleep(ctx, 8*time.Second)
		e.stop()
		if err != nil {
			return "", 0, err
		}
		got, err := e.between(begin, time.Now())
		if err != nil {
			return "", 0, err
		}
		say("preset %s: %.0f frames a second", preset, got.FPS)
		if got.FPS >= 1.2*frameRate {
			return preset, got.FPS / frameRate, nil
		}
	}
	return "", 0, errors.New("this machine is too slow to encode in real time")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
