package node

import (
	"testing"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// TestGateSaysUntilWhen: a closed gate is open again after a boot.
func TestGateSaysUntilWhen(t *testing.T) {
	const until = ", until the next boot, and after it if ec-verify-gate.service is enabled\n"
	for want, result := range map[string]turned{
		"closed: ec-verify switch alone sets the system profile" + until:                                                            {Closed: true, Changed: true},
		"closed already, nothing was changed: ec-verify switch alone sets the system profile" + until:                               {Closed: true},
		"open: every tool of root can set the system profile; the next boot closes the gate if ec-verify-gate.service is enabled\n": {Changed: true},
	} {
		if got := result.Text(terminal.Screen{}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
