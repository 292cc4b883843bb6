package running

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// bpfInfo is what the kernel says of a BPF program.
type bpfInfo struct {
	kind, name string
	tag        []byte // a hash of its instructions
	user       uint32 // who loaded it
}

// Those members of union bpf_attr that the commands here take.
type (
	bpfByNumber struct{ number, next uint32 }
	bpfAbout    struct {
		fd, size uint32
		info     unsafe.Pointer
	}
	bpfByName struct{ name unsafe.Pointer }
)

// bpf calls bpf(2) with the attributes of a command, in which it may answer.
func bpf[A any](command uintptr, attributes *A) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(attributes)), unsafe.Sizeof(*attributes)) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// bpfPrograms returns the numbers of all programs in the kernel. The error is EPERM
// without CAP_SYS_ADMIN.
func bpfPrograms() ([]uint32, error) {
	// Without it, a filter of system calls may end this process.
	if !hasCapability(unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	var out []uint32
	last := uint32(0)
	for {
		a := bpfByNumber{number: last}
		_, err := bpf(unix.BPF_PROG_GET_NEXT_ID, &a)
		if errors.Is(err, unix.ENOENT) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		last = a.next
		if out = append(out, last); len(out) > maxBPF {
			return nil, fmt.Errorf("more than %d", maxBPF)
		}
	}
}

// hasCapability reports whether this process may use a capability.
func hasCapability(number int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[number/32].Effective&(1<<(number%32)) != 0
}

// bpfProgram returns a program by its number. The error is ENOENT if there is none.
func bpfProgram(id uint32) (*bpfInfo, error) {
	a := bpfByNumber{number: id}
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &a)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	// The beginning of struct bpf_prog_info, up to the name.
	info := new([80]byte)
	about := bpfAbout{uint32(fd), uint32(len(info)), unsafe.Pointer(info)} //nolint:gosec // the kernel's interface
	_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &about)
	runtime.KeepAlive(info)
	if err != nil {
		return nil, err
	}
	p := &bpfInfo{
		kind: bpfType(binary.NativeEndian.Uint32(info[0:])), tag: info[8:16], user: binary.NativeEndian.Uint32(info[48:]),
		name: string(bytes.TrimRight(info[64:80], "\x00")),
	}
	if p.name == "" {
		p.name = fmt.Sprintf("%x", p.tag)
	}
	return p, nil
}

// pinnedProgram returns the number of the program that a file keeps, or that of the link in
// it; 0 if the file has data of programs.
func pinnedProgram(name string) (uint32, error) {
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	a := bpfByName{unsafe.Pointer(text)} //nolint:gosec // the kernel's interface
	fd, err := bpf(unix.BPF_OBJ_GET, &a)
	runtime.KeepAlive(text)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	facts, err := hostfile.ReadSmall(proc+"/self/fdinfo/"+strconv.Itoa(fd), maxOpenFacts)
	if err != nil {
		return 0, err
	}
	id, _ := keptProgram(string(facts))
	return id, nil
}
