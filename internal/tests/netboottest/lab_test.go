//go:build qemu

package netboottest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Addresses of the lab's network, which is that of the machines to be booted.
const (
	hostIP  = "10.77.0.2"
	asideIP = "10.77.0.3"  // another one of the boot host's card
	nearIP  = "10.77.0.50" // a machine in the network
	farIP   = "10.77.9.9"  // one beyond the gateway
)

// step is the time limit of everything except a boot.
const step = 10 * time.Minute

// lab is a network of namespaces: a bridge in the one that it was made for, and
// named ones for the gateway, which routes, and for two machines with nothing
// but an address: near in the network, far beyond the gateway. All of it, and
// all that runs in it, ends when the test does, also when that is killed.
type lab struct {
	t   *testing.T
	pid string // of the first process in it, seen from here
}

func newLab(t *testing.T) *lab {
	t.Helper()
	// It ends when its standard input does, and with it its namespaces.
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "echo ready; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t, strings.TrimSpace(string(children))}
	l.sh(`
		mount -t tmpfs tmpfs /run
		ip link set lo up
		ip link add lan type bridge
		ip link set lan up
		for name in gw near far; do
			ip netns add $name
			ip -n $name link set lo up
		done
		ip link add gw-lan type veth peer name eth0 netns gw
		ip link add near-lan type veth peer name eth0 netns near
		for port in gw-lan near-lan; do ip link set $port master lan up; done
		ip -n gw link add eth1 type veth peer name eth0 netns far
		ip -n gw addr add 10.77.0.1/24 dev eth0
		ip -n gw addr add 10.77.9.1/24 dev eth1
		ip -n near addr add ` + nearIP + `/24 dev eth0
		ip -n far addr add ` + farIP + `/24 dev eth0
		for at in gw/eth0 gw/eth1 near/eth0 far/eth0; do ip -n ${at%/*} link set ${at#*/} up; done
		ip -n far route add default via 10.77.0.1 dev eth0 onlink 2>/dev/null || ip -n far route add default via 10.77.9.1
		ip netns exec gw sysctl -qw net.ipv4.ip_forward=1`)
	return l
}

// command returns a command in the lab; its first word may be "@NAME" for a
// named namespace.
func (l *lab) command(ctx context.Context, argv ...string) *exec.Cmd {
	if name, ok := strings.CutPrefix(argv[0], "@"); ok {
		argv = append([]string{"ip", "netns", "exec", name}, argv[1:]...)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", l.pid, "-n", "-m", "-p", "--"}, argv...)...)
	// Where nsenter is killed, what it started ends with the lab.
	cmd.WaitDelay = time.Second
	return cmd
}

func (l *lab) run(argv ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), step)
	defer cancel()
	out, err := l.command(ctx, argv...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) sh(script string) {
	l.t.Helper()
	l.run("sh", "-euc", script)
}

// attach gives the namespace of the process pid the address of the boot host.
func (l *lab) attach(pid int) {
	l.t.Helper()
	enter := func(argv ...string) {
		l.t.Helper()
		if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
			l.t.Fatalf("nsenter %q: %v\n%s", argv, err, out)
		}
	}
	id := strconv.Itoa(pid)
	// A host that was started anew has left the old device without its other end;
	// its card is the same.
	enter("-t", l.pid, "-n", "sh", "-c", "ip link del host-lan 2>/dev/null; exec ip link add host-lan type veth peer name eth0 address 52:54:00:77:00:02 netns "+id)
	enter("-t", l.pid, "-n", "ip", "link", "set", "host-lan", "master", "lan", "up")
	enter("-t", id, "-n", "sh", "-euc", "ip addr add "+hostIP+"/24 dev eth0; ip addr add "+asideIP+"/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.0.1")
}

// gateway starts what gives the network's machines their addresses, in place of
// any before. bootFile is the one file name that machines of a kind are told,
// whatever they say of themselves; without any, it says nothing of booting.
func (l *lab) gateway(bootFile map[firmware]string) {
	l.t.Helper()
	conf := filepath.Join(l.t.TempDir(), "gateway.conf")
	lines := []string{
		"port=0", "interface=eth0", "bind-interfaces", "no-ping", "log-dhcp",
		"user=root", "pid-file=/run/gateway.pid", "dhcp-leasefile=/run/gateway.leases",
		"dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,10m",
	}
	for kind, file := range bootFile {
		// Options 66 and 67, and the fields that came before them.
		tag := string(kind)
		lines = append(lines, "dhcp-mac=set:"+tag+","+macPrefix[kind]+":*",
			"dhcp-boot=tag:"+tag+","+file+",,"+hostIP,
			"dhcp-option-force=tag:"+tag+",66,"+hostIP, "dhcp-option-force=tag:"+tag+",67,"+file)
	}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.sh(`
		if pid=$(cat /run/gateway.pid 2>/dev/null); then
			kill $pid
			while [ -e /proc/$pid ]; do sleep 0.05; done
		fi
		ip netns exec gw dnsmasq --log-facility=/run/gateway.log --conf-file=` + conf)
}

// curl asks for a URL from a namespace, and returns the status and the body.
func (l *lab) curl(from, url string, args ...string) (status, body string) {
	l.t.Helper()
	out := l.run(append([]string{"@" + from, "curl", "--silent", "--show-error", "--max-time", "300", "--path-as-is", "--write-out", "\n%{http_code}", url}, args...)...)
	at := strings.LastIndexByte(out, '\n')
	return out[at+1:], strings.TrimSuffix(out[:max(0, at)], "\n")
}
