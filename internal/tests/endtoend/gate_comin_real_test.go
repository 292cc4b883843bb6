//go:build interop

package endtoend

import (
	"os"
	"strings"
	"testing"
)

// TestCominItself tests the gate with comin itself. comin fetches from a Git repository,
// evaluates, builds, waits for the confirmation of ec-verify gate comin, and deploys.
// hack/test-interop builds comin. The repository is a directory of the same machine, and
// the systems are those of the other tests, so they are already built.
func TestCominItself(t *testing.T) {
	comin := os.Getenv("COMIN")
	if comin == "" {
		t.Fatal("COMIN is not set: run hack/test-interop")
	}
	h := &cominHost{gated: startGated(t, "git")}
	h.Push(comin, "/usr/local/bin/comin")
	t.Log(h.Run("comin", "--version"))
	h.Run("sh", "-euc", `
		mkdir -p -m 700 /var/lib/private; mkdir -p /var/lib/private/comin; ln -s private/comin /var/lib/comin
		git config --global user.name test; git config --global user.email test@example.org
		git init --quiet --initial-branch=main /srv/repository
		cat >/srv/comin.yaml <<-END
			hostname: node
			state_dir: /var/lib/comin
			repository_type: flake
			build_confirmer: {mode: without}
			deploy_confirmer: {mode: manual}
			retention: {deployment_boot_entry_capacity: 3, deployment_successful_capacity: 3, deployment_any_capacity: 3}
			remotes:
			- name: origin
			  url: /srv/repository
			  branches: {main: {name: main}, testing: {name: testing}}
			  poller: {period: 1}
		END`)
	// push has the branch lead to the system of a configuration.
	push := func(configuration string) {
		h.Run("sh", "-euc", `
			cd /srv/repository
			cat >flake.nix <<-END
				{
				  inputs.machine.url = "path:`+h.Runner().Source+`";
				  outputs = { machine, ... }: {
				    nixosConfigurations.node.config = {
				      system.build.toplevel = machine.nixosConfigurations.`+configuration+`.config.system.build.toplevel;
				      services.comin.machineId = null;
				    };
				  };
				}
			END
			git add .; nix flake lock; git add .; git commit --quiet --message `+configuration)
	}
	push("testhost-other")
	h.Run("systemd-run", "--quiet", "--unit=comin", "comin", "run", "--config", "/srv/comin.yaml")
	// waiting returns what the gate does with the generation that waits next.
	waiting := func(not string) confirmation {
		t.Helper()
		h.until("a generation waits", `id=$(comin status --json 2>/dev/null | tr -d ' \n' | sed -n 's/.*"deploy_confirmer":{[^}]*"submitted":"\([^"]*\)".*/\1/p'); [ -n "$id" ] && [ "$id" != "`+not+`" ]`)
		return h.confirm()
	}
	log := func() string { return h.log("comin") }
	file := h.Run("sh", "-euc", "nix-store -qR "+h.next+" | grep -e -program-04-1.3$") + "/bin/program-04"

	h.FlipByte(file, 3)
	bad := waiting("")
	if bad.code != 1 || bad.Confirmed || bad.OutPath != h.next || bad.Generation == "" || h.leads("/run/current-system") != h.old {
		t.Errorf("an altered byte: %+v\n%s", bad, log())
	}
	h.FlipByte(file, 3)
	if c := h.confirm(); c.code != 0 || !c.Confirmed || c.Verdict != "verified" || c.OutPath != h.next || c.Generation != bad.Generation {
		t.Errorf("a good one: %+v\n%s", c, log())
	}
	if said := log(); !strings.Contains(said, "generation "+bad.Generation+" has been confirmed") {
		t.Errorf("comin was not told to confirm %s:\n%s", bad.Generation, said)
	}
	h.until("comin has deployed it", `[ "$(readlink -f /run/current-system)" = `+h.next+` ]`)
	if got := h.leads("/nix/var/nix/profiles/system-profiles/comin"); got != h.next {
		t.Errorf("comin's profile leads to %s", got)
	}

	push("testhost-unreproducible") // of which there is no release
	other := waiting(bad.Generation)
	if other.code != 1 || other.Confirmed || other.Generation == bad.Generation || h.leads("/run/current-system") != h.next {
		t.Errorf("a system of no release: %+v\n%s", other, log())
	}
}
