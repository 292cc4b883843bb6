package nixstore

import (
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// maxDeviceNotes limits udev's record of a device, in bytes.
const maxDeviceNotes = 64 << 10

var deviceNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[1-9][0-9]{0,8}:[0-9]{1,9}$`) })

// DeviceNames returns the names in /dev, with that prefix, of this machine's block device
// with a number such as "8:1"; none if it is not a block device, or if udev has no record
// of its links. The names come from the kernel and udev, because a service may see no
// /dev.
func DeviceNames(number string) []string {
	if !deviceNumber().MatchString(number) {
		return nil
	}
	return deviceNames(readNotes("/sys/dev/block/"+number+"/uevent"), readNotes("/run/udev/data/b"+number))
}

func deviceNames(kernel, udev string) []string {
	if udev == "" {
		return nil
	}
	var names []string
	for _, notes := range []struct{ text, key string }{{kernel, "DEVNAME="}, {udev, "S:"}} {
		for line := range strings.Lines(notes.text) {
			if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), notes.key); ok {
				names = append(names, "/dev/"+name)
			}
		}
	}
	return names
}

func readNotes(name string) string {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDeviceNotes))
	if err != nil {
		return ""
	}
	return string(data)
}
