package activate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"every.channel/ec-verify/pkg/closure"
)

// script is a system's own program that activates it.
const script = "bin/switch-to-configuration"

// Outcome is the result of a switch.
type Outcome struct {
	// Generation is the system's number in the profile; 0 if the profile was not set.
	Generation int
	// Activated says that the system's script ended well.
	Activated bool
}

// ErrTouched means that a system changed after it was judged.
var ErrTouched = errors.New("it was touched since it was judged")

// ready fails if p can't be activated, before anything is changed.
func (s *Switch) ready(ctx context.Context, p closure.StorePath) error {
	info, err := os.Stat(filepath.Join(string(p), script))
	if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
		err = errors.New("not a program")
	}
	if err != nil {
		return fmt.Errorf("%s can't be switched to: %w", p, err)
	}
	if err := s.machine.idle(ctx); err != nil {
		return err
	}
	return s.machine.Script.Prepare(ctx)
}

// Activate makes p, which was judged and is protected by Hold, what the machine runs,
// boots, or both. The outcome says how far it got, also with an error. untouched is
// called after the last wait; if it returns false, nothing is changed.
//
// The profile is set first, because the script writes the boot menu from the profile. A
// process that is killed between the two leaves a profile that leads to p and a machine
// that runs the old system.
func (s *Switch) Activate(ctx context.Context, p closure.StorePath, action Action, untouched func() bool) (out Outcome, err error) {
	m := s.machine
	if err := s.ready(ctx, p); err != nil {
		return out, err
	}
	set := func() (int, error) { return 0, nil }
	if action.Boots() {
		dir, name := filepath.Split(m.Profile())
		dir, done, err := through(dir)
		if err != nil {
			return out, fmt.Errorf("lock %s: %w", m.Profile(), err)
		}
		defer done()
		profile, err := lockProfile(ctx, filepath.Join(dir, name))
		if err != nil {
			return out, fmt.Errorf("lock %s: %w", m.Profile(), err)
		}
		defer profile.unlock()
		set = func() (int, error) { return profile.set(p) }
	}
	if !untouched() {
		return out, ErrTouched
	}
	if out.Generation, err = set(); err != nil {
		return out, fmt.Errorf("set %s: %w", m.Profile(), err)
	}
	err = m.Script.Run(ctx, filepath.Join(string(p), script), string(action))
	var goesOn *GoesOnError
	if errors.As(err, &goesOn) {
		// It still needs the system; the next switch removes the link.
		s.root = ""
	}
	if err != nil {
		return out, err
	}
	if action.Runs() {
		link := m.CurrentSystem()
		if got, err := os.Readlink(link); err != nil || got != string(p) {
			return out, fmt.Errorf("%s %s ended well, but %s leads to %q", script, action, link, got)
		}
	}
	out.Activated, s.activated = true, p
	return out, nil
}
