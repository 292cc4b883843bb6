package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// metadata is what of one path is not as Nix sets it, and in no hash.
type metadata struct {
	// loose are files with rights that Nix never gives, at most maxLoose with
	// maxLooseBytes of names; more counts the rest.
	loose []looseFile
	bytes int
	more  int
	// dated are those with another modification time, attributed those with extended
	// attributes that grant no right.
	dated, attributed marked
	// linked are the files with several names, which Nix's optimised store has.
	linked []running.Link
	// unlisted says that linked has not all of them.
	unlisted bool
}

// kept returns a copy of m, nil if there is nothing in it, as for nearly every path.
func (m *metadata) kept() *metadata {
	if len(m.loose)+m.more+m.dated.n+m.attributed.n+len(m.linked) == 0 && !m.unlisted {
		return nil
	}
	kept := *m
	return &kept
}

// marked counts files and directories with something that Nix never sets and that is
// no alarm.
type marked struct {
	n     int
	first looseFile
}

func (m *marked) add(name, what string) {
	if m.n++; m.first.what == "" && len(name) <= maxMarkedName {
		m.first = looseFile{name: name, what: what}
	}
}

type looseFile struct {
	name string // relative to the store path, raw
	what string // what is wrong, for the report
	want string
}

const (
	// maxLoose and maxLooseBytes limit what is kept of one path, because the whole store
	// may be like that.
	maxLoose      = 20
	maxLooseBytes = 8 << 10
	// maxLooseFindings is from when on a run names one file of each path only.
	maxLooseFindings = 1000
	// maxMarkedName limits the one name that is kept of marked files, in bytes.
	maxMarkedName = 1 << 10
)

// watch sets the options by which the hasher reports metadata to m.
func (m *metadata) watch(opts *nar.Options) {
	add := func(name, what, want string) {
		if len(m.loose) == maxLoose || m.bytes+len(name) > maxLooseBytes {
			m.more++
			return
		}
		m.bytes += len(name)
		m.loose = append(m.loose, looseFile{name, what, want})
	}
	opts.OnMode = func(name string, mode uint32) {
		add(name, fmt.Sprintf("mode %04o", mode&0o7777), "mode 0444 or 0555")
	}
	opts.OnOwner = func(name string, uid, gid uint32) {
		if uid != 0 && uid != opts.Owner {
			add(name, fmt.Sprintf("owner %d", uid), fmt.Sprintf("owner %d", opts.Owner))
		}
		if gid != 0 && gid != opts.Group {
			add(name, fmt.Sprintf("group %d", gid), "group 0")
		}
	}
	opts.OnAttributes = func(name string, attributes []string) {
		var others []string
		for _, a := range attributes {
			switch {
			case a == "security.capability":
				add(name, "file capabilities", "")
			case strings.HasPrefix(a, "system.posix_acl_"):
				add(name, "an access control list", "")
			case !slices.Contains(leftAttributes, a):
				others = append(others, a)
			}
		}
		if len(others) > 0 {
			slices.Sort(others)
			m.attributed.add(name, excerpt.Of(strings.Join(others, ", "), maxAttributeNames))
		}
	}
	opts.OnTime = func(name string, sec, nsec int64) {
		m.dated.add(name, time.Unix(sec, nsec).UTC().Format(time.RFC3339Nano))
	}
}

// leftAttributes are the extended attributes that Nix leaves (its setting
// ignored-acls).
var leftAttributes = []string{"security.csm", "security.selinux", "system.nfs4_acl"}

// maxAttributeNames limits the names of one file's attributes, in bytes.
const maxAttributeNames = 300

// judgeMetadata adds a finding for each mode or right that Nix never sets. A mode that
// removes rights (0500) counts as well: Nix gives all its objects the same, so somebody
// else changed it.
func (c *contentsCheck) judgeMetadata(p closure.StorePath, m *metadata) {
	loose, more := m.loose, m.more
	if len(loose) > 1 && c.looseFindings >= maxLooseFindings {
		loose, more = loose[:1], more+len(loose)-1
	}
	if len(loose) == 0 && more > 0 {
		// Each name is too long to be kept.
		loose, more = []looseFile{{what: "owner, mode or attributes of a file"}}, more-1
	}
	c.looseFindings += len(loose)
	for i, l := range loose {
		f := report.Finding{
			Tier: report.TierContents, Cause: report.PermissionsAltered, Path: joinFile(string(p), l.name),
			Want: l.want, Got: l.what,
		}
		if i == len(loose)-1 && more > 0 {
			f.Detail = fmt.Sprintf("and %d more in this path", more)
		}
		c.find(f)
	}
}

// maxMarked limits the paths that are named as marked.
const maxMarked = 20

// noteTimes names the paths with times that Nix never sets. That is a notice: a time
// grants no right, an attacker can set any time, and some honest tools that write images
// set another one on every file; but it shows a file that somebody changed and changed
// back.
func (c *contentsCheck) noteTimes() {
	f := report.Finding{Cause: report.TimeAltered, Want: time.Unix(1, 0).UTC().Format(time.RFC3339Nano)}
	c.noteMarked(f, func(m *metadata) *marked { return &m.dated })
}

// noteAttributes names the paths with extended attributes that Nix removes and that grant
// no right, for the same reason.
func (c *contentsCheck) noteAttributes() {
	f := report.Finding{Cause: report.AttributesAltered, Want: "no extended attributes"}
	c.noteMarked(f, func(m *metadata) *marked { return &m.attributed })
}

// noteMarked adds f for each path with marked files. If there are many, the image is
// probably the reason, and one notice covers all. For a path whose bytes differ from the
// release it adds nothing.
func (c *contentsCheck) noteMarked(f report.Finding, of func(*metadata) *marked) {
	var which []int
	files := 0
	for i := range c.observed {
		o := &c.observed[i]
		if o.metadata == nil || o.err != nil || o.sum.Hash != c.audit.paths[i].NarHash {
			continue
		}
		if n := of(o.metadata).n; n > 0 {
			which = append(which, i)
			files += n
		}
	}
	say := func(i int, detail string) {
		m := of(c.observed[i].metadata)
		f.Tier, f.Path, f.Got, f.Detail = report.TierContents, joinFile(string(c.audit.paths[i].Path), m.first.name), m.first.what, detail
		c.find(f)
	}
	if len(which) > maxMarked {
		say(which[0], fmt.Sprintf("this one first, of %d files and directories in %d paths", files, len(which)))
		return
	}
	for _, i := range which {
		detail := ""
		if n := of(c.observed[i].metadata).n; n > 1 {
			detail = fmt.Sprintf("this one first, of %d files and directories in this path", n)
		}
		say(i, detail)
	}
}

func joinFile(path, name string) string {
	if name == "" {
		return path
	}
	return path + "/" + name
}
