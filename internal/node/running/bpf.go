package running

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// Limits of a look at the BPF programs of the kernel.
const (
	maxBPF       = 20_000  // programs
	maxPins      = 10_000  // files in file systems of BPF
	maxOpenFacts = 4 << 10 // bytes of what /proc says of an open file
	// keepsBPF begins the kernel's names for open programs, and for what attaches them.
	keepsBPF = "anon_inode:bpf"
	wantBPF  = "BPF programs of services of the release"
)

// bpfTypes are the kernel's names for the types of BPF programs, by number.
var bpfTypes = []string{
	"unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event", "cgroup_skb", "cgroup_sock", "lwt_in",
	"lwt_out", "lwt_xmit", "sock_ops", "sk_skb", cgroupDevice, "sk_msg", "raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2",
	"sk_reuseport", "flow_dissector", "cgroup_sysctl", "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm",
	"sk_lookup", "syscall", "netfilter",
}

// cgroupDevice is the type of the programs that can do nothing but refuse a device to a
// control group. Tools for containers attach them and end.
const cgroupDevice = "cgroup_device"

func bpfType(number uint32) string {
	if int64(number) < int64(len(bpfTypes)) {
		return bpfTypes[number]
	}
	return strconv.FormatUint(uint64(number), 10)
}

// bpfLook is a look at the BPF programs of the kernel.
type bpfLook struct {
	*look
	kept    map[uint32]bool // programs that a process keeps, by number
	manager program         // the program of the first process
}

// checkBPF finds the BPF programs that nothing of the accepted system keeps: those of other
// processes, those that files or network interfaces keep, and, where this process may list
// all of them, those that nothing visible keeps.
func (m *Machine) checkBPF(ctx context.Context, l *look, pids []string) error {
	if _, err := os.Stat(settingsRoot + "kernel/unprivileged_bpf_disabled"); isAbsent(err) {
		return nil // a kernel without them
	}
	b := &bpfLook{look: l, kept: map[uint32]bool{}}
	contained := m.inContainer()
	var all []uint32
	var err error
	if contained {
		l.notSeen = append(l.notSeen, "BPF programs that no process keeps (this is a container)")
	} else if all, err = bpfPrograms(); err != nil {
		// Before the processes: a program that is loaded later is not among them.
		if !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("the BPF programs: %w", err)
		}
		l.notSeen = append(l.notSeen, "BPF programs that neither a process, a file nor an interface keeps (to list them takes CAP_SYS_ADMIN)")
	}
	b.manager, _ = programOf(path.Join(proc, firstPID)) // else no other process's program is that
	for _, pid := range pids {
		if err := errors.Join(ctx.Err(), b.process(pid)); err != nil {
			return err
		}
	}
	if contained {
		return nil
	}
	mounts, err := m.FirstMounts()
	if err != nil {
		return err
	}
	for i := range mounts {
		if mounts[i].Type == "bpf" {
			if err := b.pins(ctx, mounts[i].Point, len(all) > 0); err != nil {
				return err
			}
		}
	}
	if hasPrivate("net") {
		l.notSeen = append(l.notSeen, "BPF programs on interfaces (the network is private to this process)")
	} else if err := b.interfaces(); err != nil {
		return err
	}
	return b.unkept(all)
}

// programOf returns the program of a process.
func programOf(dir string) (program, error) {
	name, err := os.Readlink(dir + "/exe")
	if err != nil {
		return program{}, err
	}
	id, err := identify(dir + "/exe")
	return program{id, name}, err
}

// process judges the BPF programs that a process keeps. Those of the service manager are
// kept, for a moment, by its children too.
func (b *bpfLook) process(pid string) error {
	dir := path.Join(proc, pid)
	kinds := map[string]bool{}
	err := openFiles(dir, func(number string, target []byte) {
		if !strings.HasPrefix(string(target), keepsBPF) {
			return
		}
		facts, err := hostfile.ReadSmall(path.Join(dir, "fdinfo", number), maxOpenFacts)
		if err != nil {
			return // closed meanwhile
		}
		if id, kind := keptProgram(string(facts)); id != 0 {
			b.checked++
			b.kept[id] = true
			kinds[kind] = true
		}
	})
	if len(b.kept) > maxBPF {
		return fmt.Errorf("processes keep more than %d BPF programs", maxBPF)
	}
	if errors.Is(err, os.ErrPermission) {
		return needsPtrace(err)
	}
	if err != nil && !isOver(err) {
		return err
	}
	if len(kinds) == 0 || pid == firstPID {
		return nil
	}
	if p, err := programOf(dir); err == nil && p == b.manager {
		return nil
	}
	exe, unit, why := b.m.listener(dir, pid)
	if why == "" {
		return nil
	}
	for kind := range kinds {
		b.find(report.Finding{
			Cause: report.CodeUnknown, Path: exe, Field: "BPF " + kind, Want: wantBPF,
			Got: fmt.Sprintf("kept by process %s, in %s: %s", pid, unit, why),
		})
	}
	return nil
}

// keptProgram reads what /proc says of an open program or link: the number of the
// program, 0 for none, and its type or the link's.
func keptProgram(facts string) (id uint32, kind string) {
	for line := range strings.Lines(facts) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch number, _ := strconv.ParseUint(value, 10, 32); key {
		case "prog_type":
			kind = bpfType(uint32(number))
		case "link_type":
			kind = value
		case "prog_id":
			id = uint32(number)
		}
	}
	return id, kind
}

// pins finds the files in a file system of BPF, each of which keeps a program, or data of
// programs. open says whether to ask which.
func (b *bpfLook) pins(ctx context.Context, point string, open bool) error {
	pins := 0
	err := b.m.Store.Walk(ctx, point, func(e *nixstore.Entry) error {
		if e.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		if pins++; pins > maxPins {
			return fmt.Errorf("more than %d files", maxPins)
		}
		b.checked++
		name := path.Join(point, e.Name())
		if open {
			// What can't be opened keeps no program of the list.
			if id, err := pinnedProgram(FirstRoot + name); err == nil && id != 0 {
				b.kept[id] = true
			}
		}
		if !b.m.mayPin(e.Name()) {
			b.find(report.Finding{Cause: report.CodeUnknown, Path: name, Want: wantBPF, Got: "kept by this file"})
		}
		return nil
	})
	if err != nil && !isAbsent(err) {
		b.unseen(point, err)
	}
	return ctx.Err()
}

// mayPin reports whether a file in a file system of BPF is the kernel's own, or one of a
// service of the accepted system.
func (m *Machine) mayPin(name string) bool {
	switch {
	case name == "maps.debug" || name == "progs.debug": // CONFIG_BPF_PRELOAD
		return true
	case strings.HasPrefix(name, "systemd/userns-restrict/"):
		return m.hasUnit("systemd-nsresourced.service")
	}
	return false
}

// unkept finds those of all programs that nothing visible keeps.
func (b *bpfLook) unkept(all []uint32) error {
	for _, id := range all {
		b.checked++
		if b.kept[id] {
			continue
		}
		p, err := bpfProgram(id)
		if errors.Is(err, unix.ENOENT) {
			continue // unloaded meanwhile
		}
		if err != nil {
			return fmt.Errorf("BPF program %d: %w", id, err)
		}
		if p.kind == cgroupDevice {
			continue
		}
		b.find(report.Finding{
			Cause: report.CodeUnknown, Path: "BPF program " + p.name, Field: p.kind, Want: wantBPF,
			Got: fmt.Sprintf("number %d, tag %x, loaded by user %d and kept by no process and no known file", id, p.tag, p.user),
		})
	}
	return nil
}
