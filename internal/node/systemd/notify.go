package systemd

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/daemon"

	"every.channel/ec-verify/pkg/excerpt"
)

// maxStatus limits a status, in bytes; systemctl shows it in one line.
const maxStatus = 256

// Notify tells the service manager in one line what the unit is doing, and asks for at
// least extend more time before the unit counts as hung; 0 for no more time. It reports
// whether a service manager listens: outside a unit there is none, which is not an error.
//
// See sd_notify(3), STATUS= and EXTEND_TIMEOUT_USEC=.
func Notify(status string, extend time.Duration) (heard bool, err error) {
	lines := []string{"STATUS=" + oneLine(status)}
	if extend > 0 {
		lines = append(lines, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extend.Microseconds()))
	}
	heard, err = daemon.SdNotify(false, strings.Join(lines, "\n"))
	if err != nil {
		return false, fmt.Errorf("tell the service manager: %w", err)
	}
	return heard, nil
}

// oneLine makes s safe for a protocol of lines, and for a terminal: a newline would start
// a new assignment.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	return excerpt.Of(s, maxStatus-len("…"))
}
