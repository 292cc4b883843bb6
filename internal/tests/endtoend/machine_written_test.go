package endtoend

import (
	"slices"
	"testing"
)

// TestMachineWritten: what was written over the root since it was booted.
func TestMachineWritten(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.askMachine("written")
	a := m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents")
	if a.Verdict != "inconclusive" || !slices.Contains(a.causes(), "machine-unseen part written") {
		t.Errorf("where the layer can't be seen: %s, %v", a.Verdict, a.causes())
	}
	m.ShowUpper()
	m.askMachineBut([]string{machineConfig, releases + "/"}, "written")
	m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents").expect(t, "verified", 0)
	m.Run("mkdir", "-p", "/opt/empty/directory")
	for _, p := range []planted{
		{"a file", "echo evil >/root/.evilrc", "rm /root/.evilrc", []string{"written-unknown /root/.evilrc"}},
		{"a directory for all", "chmod 777 /srv", "chmod 755 /srv", []string{"written-unknown /srv mode"}},
		{"many files", "mkdir /srv/many; cd /srv/many; seq 1000 | xargs touch", "rm -r /srv/many", nil},
		// What was there below is missed as long as the machine is not booted.
		{"a directory removed", "rmdir /mnt", "", []string{"written-unknown /mnt"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", p.do)
			defer m.Run("sh", "-euc", p.undo)
			m.verify("--unsafe-skip", "source,eval,contents").expect(t, "verified", 0)
			a := m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents")
			if p.causes != nil {
				a.expect(t, "drifted", 1, p.causes...)
			} else if n := len(a.all("written-unknown")); n != 21 {
				t.Errorf("%d findings: %v", n, a.causes())
			}
		})
	}
}

// TestMachineStore: what lies in the store that Nix has not registered.
func TestMachineStore(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.askMachine("store")
	m.Run("sh", "-c", "echo 12345 >/nix/store/evil; mkdir /nix/store/00000000000000000000000000000000-stray; echo 123 >/nix/store/00000000000000000000000000000000-stray/file")
	a := m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents")
	a.expect(t, "verified", 0)
	want := []string{"/nix/store/00000000000000000000000000000000-stray", "/nix/store/evil"}
	if got := a.all("path-unregistered"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMachineSockets: who listens on the network.
func TestMachineSockets(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.askMachine("sockets")
	verify := func() answer { return m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents") }
	verify().expect(t, "verified", 0)
	m.Run("sh", "-euc", running+"cp /bin/busybox /tmp/nc; run nc /tmp/nc -l -p 4444")
	verify().expect(t, "drifted", 1, "socket-unknown /tmp/nc tcp [::]:4444")
	m.Run("sh", "-euc", running+"end nc")
	verify().expect(t, "verified", 0)
	// One that a thread keeps from the first one of its process.
	m.write("/root/thread.pl", `use threads; use Socket;
		threads->create(sub {
			syscall('+unshare+', 0x400) == 0 or die $!;
			my $s; socket($s, PF_INET, SOCK_STREAM, 0) and bind($s, sockaddr_in(4445, INADDR_ANY)) and listen($s, 1) or die $!;
			sleep 1000;
		})->join;`)
	m.Run("sh", "-euc", `n=272; [ "$(uname -m)" = x86_64 ] || n=97; sed -i "s/'+unshare+'/$n/" /root/thread.pl; setsid perl /root/thread.pl </dev/null >/dev/null 2>&1 & echo $! >/run/pid.thread
		until grep -q ":115D 00000000:0000 0A " /proc/net/tcp; do sleep 0.02; done`)
	verify().expect(t, "drifted", 1, "socket-unknown /usr/bin/perl tcp 0.0.0.0:4445")
	m.Run("sh", "-euc", running+"end thread")
	verify().expect(t, "verified", 0)
}
