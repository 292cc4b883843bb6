package expected

import (
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Machine is the expected state of one system's machine. All lists are in ascending order
// of bytes, except lists of lines, which are in the order of their file.
type Machine struct {
	SchemaVersion int               `json:"schemaVersion"`
	Kind          string            `json:"kind"`
	Configuration string            `json:"configuration"`
	Toplevel      closure.StorePath `json:"toplevel"`
	// EtcTree is the directory in the store that /etc/static leads to; empty for a
	// system without one.
	EtcTree string `json:"etcTree"`
	// Etc are the entries of /etc.
	Etc []Entry `json:"etc"`
	// Units are the files and links beneath /etc/systemd/system: units, their
	// drop-ins, and the links that enable them.
	Units []Unit `json:"units"`
	// Users is nil if the system does not state them.
	Users *Users `json:"users"`
	// Mounts are the lines of /etc/fstab.
	Mounts []string `json:"mounts"`
	// Parameters are the parameters of the kernel's command line.
	Parameters []string `json:"kernelParameters"`
	// Sysctl are the lines of /etc/sysctl.d, Modules those of /etc/modules-load.d,
	// Modprobe those of /etc/modprobe.d, which block modules.
	Sysctl   []string `json:"sysctl"`
	Modules  []string `json:"modules"`
	Modprobe []string `json:"modprobe"`
	// Lingering are the users whose services run without a login.
	Lingering []string `json:"lingering,omitzero"`
	// Firewall is nil in an asset of an earlier program.
	Firewall *Firewall `json:"firewall,omitzero"`
}

// Entry is an entry of /etc that NixOS's activation makes from the system's etc tree
// (nixos/modules/system/etc/setup-etc.pl): a directory, a link, or a copy.
type Entry struct {
	Path      string `json:"path"` // below /etc
	Directory bool   `json:"directory,omitzero"`
	Target    string `json:"target,omitzero"` // of a link
	Copy      *Copy  `json:"copy,omitzero"`
}

// Copy is a file that is copied to /etc.
type Copy struct {
	Source string   `json:"source"` // the file that is copied
	SHA256 nar.Hash `json:"sha256"` // of its contents
	Mode   string   `json:"mode"`   // four octal digits
	// User and Group are names, or numbers after "+"; empty for root.
	User  string `json:"user,omitzero"`
	Group string `json:"group,omitzero"`
}

// Unit is a file of the service manager.
type Unit struct {
	Path string `json:"path"` // below /etc/systemd/system
	// Target is the file that it finally leads to, in the store, or "/dev/null" for a mask.
	Target string `json:"target"`
}

// Users are the users and groups that the configuration makes.
type Users struct {
	// Mutable says that others may be added on the machine.
	Mutable bool    `json:"mutable"`
	Users   []User  `json:"users"`
	Groups  []Group `json:"groups"`
}

// User is a user. It has no hash of a password.
type User struct {
	Name string `json:"name"`
	// Number is nil if the machine chooses it.
	Number *uint32 `json:"number"`
	Group  string  `json:"group"`
	Home   string  `json:"home"`
	Shell  string  `json:"shell"`
	// Passwordless says that the configuration allows a login without a password, as an
	// installer's does.
	Passwordless bool `json:"passwordless,omitzero"`
}

// Group is a group of users.
type Group struct {
	Name    string   `json:"name"`
	Number  *uint32  `json:"number"`
	Members []string `json:"members"`
}
