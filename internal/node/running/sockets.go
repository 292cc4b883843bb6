package running

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/report"
)

const (
	maxListening = 20_000
	maxCgroup    = 16 << 10 // bytes of the list of one process's control groups
)

// socketLists are the kernel's lists of sockets, in the network of the first process,
// with the state of a socket that waits for connections or packets. A raw socket receives
// all packets of an IP protocol, which is its port here. A packet socket receives those of a
// lower layer, such as all of IP. Both count in any state.
var socketLists = []struct{ protocol, file, state string }{
	{"tcp", "/proc/1/net/tcp", "0A"},
	{"tcp", "/proc/1/net/tcp6", "0A"},
	{"udp", "/proc/1/net/udp", "07"},
	{"udp", "/proc/1/net/udp6", "07"},
	{"udplite", "/proc/1/net/udplite", "07"},
	{"udplite", "/proc/1/net/udplite6", "07"},
	{"raw", "/proc/1/net/raw", ""},
	{"raw", "/proc/1/net/raw6", ""},
	{packets, "/proc/1/net/packet", ""},
}

const packets = "packet"

// errListening means that there are too many sockets to check.
var errListening = fmt.Errorf("more than %d sockets listen", maxListening)

// listening are the sockets that wait for connections or packets, by the number of their
// file.
type listening map[uint64]string // "tcp 0.0.0.0:22"

// read adds the sockets in one of the kernel's lists, proc_net(5).
func (s listening) read(r io.Reader, protocol, state string) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(s) == maxListening:
			return errListening
		case protocol == packets && len(f) == 9 && f[8] != "Inode":
			inode, err := strconv.ParseUint(f[8], 10, 64)
			if err != nil {
				return fmt.Errorf("the list of sockets has the line %.200q: %w", lines.Text(), err)
			}
			s[inode] = protocol + " " + f[3]
		case len(f) >= 10 && f[0] != "sl" && (state == "" || f[3] == state):
			at, err := parseAddress(f[1])
			inode, err2 := strconv.ParseUint(f[9], 10, 64)
			if err := errors.Join(err, err2); err != nil {
				return fmt.Errorf("the list of sockets has the line %.200q: %w", lines.Text(), err)
			}
			s[inode] = protocol + " " + at.String()
		}
	}
	return lines.Err()
}

// parseAddress reads "0100007F:0016": words as they are in memory, and the port.
func parseAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, fmt.Errorf("%.50q is not an address", text)
	}
	var raw []byte
	for word := range slices.Chunk([]byte(host), 8) {
		n, err := strconv.ParseUint(string(word), 16, 32)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%.50q is not an address", text)
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(n))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr, uint16(number)), nil
}

// checkSockets checks the processes that listen on the network.
func (m *Machine) checkSockets(ctx context.Context, l *look) error {
	sockets, err := l.listening()
	if err != nil || len(sockets) == 0 {
		return err
	}
	addresses, err := m.socketAddresses(ctx)
	if err != nil {
		return err
	}
	pids, err := processes()
	if err != nil {
		return err
	}
	if i := slices.Index(pids, firstPID); i >= 0 {
		pids = append(slices.Delete(pids, i, i+1), firstPID) // see judge
	}
	o := &owners{look: l, sockets: sockets, addresses: addresses, seen: map[uint64]bool{}}
	for _, pid := range pids {
		if err := errors.Join(ctx.Err(), o.process(pid)); err != nil {
			return err
		}
	}
	for _, pid := range pids {
		if len(o.seen) == len(sockets) {
			break
		}
		if err := errors.Join(ctx.Err(), o.threads(pid)); err != nil {
			return err
		}
	}
	if n := len(sockets) - len(o.seen); n > 0 {
		l.notSeen = append(l.notSeen, fmt.Sprintf("%d listening sockets of no process (such as the kernel's)", n))
	}
	return nil
}

// listening returns the sockets in the kernel's lists.
func (l *look) listening() (listening, error) {
	sockets := listening{}
	for _, list := range socketLists {
		f, err := os.Open(list.file)
		if isAbsent(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		err = sockets.read(f, list.protocol, list.state)
		f.Close()
		l.checked++
		if errors.Is(err, errListening) {
			l.unseen(list.file, err)
			break
		}
		if err != nil {
			return nil, err
		}
	}
	l.checked += len(sockets)
	return sockets, nil
}

// owners is the state of a check of the processes that have listening sockets.
type owners struct {
	*look
	sockets   listening
	addresses []address       // of the socket units
	seen      map[uint64]bool // sockets of a process
}

// process judges the sockets of a process.
func (o *owners) process(pid string) error {
	dir := path.Join(proc, pid)
	has, err := o.sockets.of(dir)
	if errors.Is(err, os.ErrPermission) {
		return needsPtrace(err)
	}
	if err != nil && !isOver(err) {
		return err
	}
	o.judge(dir, pid, has)
	return nil
}

// threads judges the sockets of the other threads of a process, which may have other open
// files than the first one.
func (o *owners) threads(pid string) error {
	for _, task := range tasks(path.Join(proc, pid))[1:] {
		has, err := o.sockets.of(task)
		if err != nil && !isOver(err) {
			return err
		}
		o.judge(task, pid, slices.DeleteFunc(has, func(inode uint64) bool { return o.seen[inode] }))
	}
	return nil
}

// judge adds a finding if a process must not have its sockets. The first process is judged
// last: a socket that a service also has belongs to that service.
func (o *owners) judge(dir, pid string, has []uint64) {
	if len(has) == 0 {
		return
	}
	exe, unit, why := o.m.listener(dir, pid)
	for _, inode := range has {
		if pid == firstPID {
			if why = ""; !o.seen[inode] && !activates(o.addresses, o.sockets[inode]) {
				why = "no socket unit of the release listens there"
			}
		}
		o.seen[inode] = true
		if why != "" {
			o.find(report.Finding{
				Cause: report.SocketUnknown, Path: exe, Field: o.sockets[inode], Want: "a program of the release in a service of it",
				Got: fmt.Sprintf("process %s, in %s: %s", pid, unit, why),
			})
		}
	}
}

// of returns the open sockets of a process.
func (s listening) of(dir string) (out []uint64, err error) {
	err = openFiles(dir, func(_ string, target []byte) {
		number, ok := strings.CutPrefix(string(target), "socket:[")
		if !ok {
			return
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if _, listens := s[inode]; err == nil && listens && !slices.Contains(out, inode) {
			out = append(out, inode)
		}
	})
	return out, err
}

// listener returns the program of a process, its unit, and the reason why the accepted
// system does not allow it to listen; "" if it does.
func (m *Machine) listener(dir, pid string) (exe, unit, why string) {
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		exe = dir
	}
	groups, err := hostfile.ReadSmall(dir+"/cgroup", maxCgroup)
	if err != nil {
		return exe, "an unknown unit", err.Error()
	}
	unit = unitOf(string(groups))
	p, _, err := m.Store.Dir().Within(exe)
	switch {
	case pid == firstPID: // for the sockets of units
	case err != nil || !m.hashed(p):
		why = "the program does not belong to the release"
	case !strings.HasSuffix(unit, ".service"):
		why = "it is not in a service"
	case !m.hasUnit(unit):
		why = "the service does not belong to the release"
	}
	return exe, unit, why
}

// firstPID is the service manager.
const firstPID = "1"

// address is a place where a socket unit listens, as in its file: a port, or an address
// with a port.
type address struct{ protocol, at string }

// socketAddresses returns the addresses of the accepted system's socket units.
func (m *Machine) socketAddresses(ctx context.Context) ([]address, error) {
	want, err := m.expected(ctx)
	if err != nil {
		return nil, err
	}
	var out []address
	for _, u := range want.Units {
		if path.Ext(u.Path) != ".socket" && !strings.HasSuffix(path.Dir(u.Path), "socket.d") || u.Target == "/dev/null" {
			continue
		}
		text, _, err := m.Store.ReadOutside(u.Target, maxUnitFile)
		if err != nil && !isAbsent(err) {
			return nil, err
		}
		for key, value := range assignments(string(text)) {
			switch key {
			case "ListenStream":
				out = append(out, address{"tcp", value})
			case "ListenDatagram":
				out = append(out, address{"udp", value})
			}
		}
	}
	return out, nil
}

// activates reports whether one of these addresses is that of a socket, such as
// "tcp [::]:22".
func activates(addresses []address, socket string) bool {
	protocol, at, _ := strings.Cut(socket, " ")
	is, err := netip.ParseAddrPort(at)
	return err == nil && slices.ContainsFunc(addresses, func(a address) bool {
		if a.protocol != protocol {
			return false
		}
		if port, err := strconv.ParseUint(a.at, 10, 16); err == nil {
			return uint16(port) == is.Port()
		}
		want, err := netip.ParseAddrPort(a.at)
		if err != nil {
			return strings.Contains(a.at, "%") // a specifier, which may be anything
		}
		return want.Port() == is.Port() && want.Addr().WithZone("") == is.Addr()
	})
}

// unitOf returns the unit of the system that a process is in, by the list of its
// control groups, cgroups(7). For a process of a user who logged in, it is a slice.
func unitOf(groups string) string {
	for line := range strings.Lines(groups) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		for _, part := range strings.Split(group, "/") {
			if part == "user.slice" || part == "machine.slice" || strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
				return part
			}
		}
	}
	return "no unit"
}

// hasUnit reports whether the accepted system has a unit, or the template of one.
func (m *Machine) hasUnit(unit string) bool {
	names := []string{unit}
	if t := template(unit); t != "" {
		names = append(names, t)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		p, _, err := m.Store.ResolveLink(string(m.Toplevel) + "/etc/systemd/system/" + name)
		return err == nil && m.ofRelease(p)
	})
}
