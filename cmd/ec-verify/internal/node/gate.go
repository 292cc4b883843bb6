package node

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/activate"
	"every.channel/ec-verify/pkg/closure"
)

func newGateCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{
		Use: "gate", Short: "keep other tools from switching to an unverified system",
		Long: `nixos-rebuild, deploy-rs and colmena set the system profile: gate close makes
it read-only for them, while ec-verify switch can still set it. comin waits for
a confirmation before it deploys: gate comin gives it. docs/gate.md lists the
other ways to switch a machine.`,
		Example: `  # Until the next boot; at each boot: systemctl enable ec-verify-gate
  ec-verify gate close
  ec-verify switch boot-v2026.03.15`,
	},
		newGateCloseCommand(a), newGateOpenCommand(a), newGateCominCommand(a))
}

func newGateCloseCommand(a *app) *cobra.Command {
	var comin bool
	cmd := &cobra.Command{
		Use:   "close",
		Short: "make the system profile read-only for all but ec-verify switch",
		Long: `Mount /nix/var/nix/profiles on itself, read-only. nix-env can no longer set the
system profile, so nixos-rebuild, deploy-rs and colmena fail before they have
changed anything. ec-verify switch can still set it. The profiles of users, in
per-user, stay writable.

Root can undo it, with ec-verify gate open or by any other means, and can run a
system's switch-to-configuration without a profile. The gate is open again
after a reboot, unless the unit ec-verify-gate.service is enabled: it closes
the gate at each boot.

Exit codes: 0 the gate is closed, now or before; 4 it could not be closed.`,
		Example: `  ec-verify gate close

  # comin has its own profile; ec-verify gate comin confirms its deployments
  ec-verify gate close --comin`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var except []string
			if comin {
				except = []string{"system-profiles"}
			}
			return a.Refused(gateKind, a.turnGate(func(m *activate.Machine) error { return m.Close(cmd.Context(), except...) }, true))
		},
	}
	cmd.Flags().BoolVar(&comin, "comin", false, "leave system-profiles writable, the directory of comin's profile")
	return cmd
}

func newGateOpenCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "open",
		Short: "undo gate close",
		Long: `Undo ec-verify gate close: every tool of root can set the system profile again.

Exit codes: 0 the gate is open, now or before; 4 it could not be opened.`,
		Example: `  # Remove old generations, which a closed gate keeps
  ec-verify gate open
  nix-collect-garbage --delete-older-than 30d
  systemctl restart ec-verify-gate`,
		Args: terminal.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.Refused(gateKind, a.turnGate((*activate.Machine).Open, false))
		},
	}
}

// turnGate opens or closes the gate, and says whether that changed anything. It reads no
// configuration, so that a mistake in it can't leave the gate open.
func (a *app) turnGate(turn func(*activate.Machine) error, closed bool) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can turn the gate")
	}
	m := activate.This(closure.DefaultStoreDir, "", nil)
	was, err := m.Closed()
	if err != nil {
		return err
	}
	if err := turn(m); err != nil {
		return err
	}
	return a.Show(&turned{SchemaVersion: 1, Kind: gateKind, Closed: closed, Changed: was != closed})
}

// gateKind is the kind of the JSON of gate close and gate open.
const gateKind = "ec-verify-gate"

// turned is how the gate is after gate close or gate open; docs/gate.md documents each
// member of its JSON form.
type turned struct {
	SchemaVersion int    `json:"schemaVersion"`
	Kind          string `json:"kind"`
	Closed        bool   `json:"closed"`
	Changed       bool   `json:"changed"`
}

// Text implements [terminal.Result].
func (t *turned) Text(screen terminal.Screen) string {
	already := ""
	if !t.Changed {
		already = " already, nothing was changed"
	}
	state, means, _ := strings.Cut(gateWords(t.Closed), ":")
	until := "; the next boot closes the gate if ec-verify-gate.service is enabled"
	if t.Closed {
		until = ", until the next boot, and after it if ec-verify-gate.service is enabled"
	}
	return screen.Fold(state + already + ":" + means + until + "\n")
}

// gateClosed reports whether ec-verify switch alone sets the system profile.
func gateClosed(dir closure.StoreDir) (bool, error) { return activate.This(dir, "", nil).Closed() }

// gateWords says how the gate is, and what that means.
func gateWords(closed bool) string {
	if closed {
		return "closed: ec-verify switch alone sets the system profile"
	}
	return "open: every tool of root can set the system profile"
}
