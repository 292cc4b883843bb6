package activate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// transientDir has the unit itself, while it is loaded.
const transientDir = "/run/systemd/transient"

// dropIns are the directories with what systemd changes of the unit. That for all
// services, "service.d", is a matter of the machine.
var dropIns = []string{Unit + ".d", "ec-verify-.service.d", "ec-.service.d"}

// unchanged fails where a file on the machine keeps the unit from being started, or
// has it run something else.
func unchanged(ctx context.Context) error {
	return asked(ctx, func(_ context.Context, conn *dbus.Conn) error {
		text, err := conn.GetManagerProperty("UnitPath")
		if err != nil {
			return err
		}
		value, err := godbus.ParseVariant(text, godbus.ParseSignatureMust("as"))
		if err != nil {
			return err
		}
		dirs, _ := value.Value().([]string)
		return unchangedIn(dirs)
	})
}

// unchangedIn is [unchanged], for the directories of units.
func unchangedIn(dirs []string) error {
	for _, dir := range dirs {
		names := []string{}
		if dir != transientDir {
			names = append(names, Unit)
		}
		for _, d := range dropIns {
			entries, err := os.ReadDir(filepath.Join(dir, d))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, e := range entries {
				if filepath.Ext(e.Name()) == ".conf" {
					names = append(names, filepath.Join(d, e.Name()))
				}
			}
		}
		for _, name := range names {
			at := filepath.Join(dir, name)
			if _, err := os.Lstat(at); err == nil {
				return fmt.Errorf("%s makes something else of %s: remove it", at, Unit)
			}
		}
	}
	return nil
}
