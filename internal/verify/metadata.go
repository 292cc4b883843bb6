package verify

import (
	"fmt"
	"time"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// metadata is what of one path is not as Nix sets it, and in no hash. The zero
// value is a path that is as Nix makes them.
type metadata struct {
	// loose are files with rights that Nix never gives, at most maxLoose with
	// maxLooseBytes of names; more counts the rest.
	loose []looseFile
	bytes int
	more  int
	// dated counts the files and directories with another time of modification,
	// of which first is one.
	dated int
	first looseFile
}

type looseFile struct {
	name string // relative to the store path, raw
	what string // what is wrong, for the report
	want string
}

const (
	// maxLoose and maxLooseBytes bound what is kept of one path: the whole store
	// may be like that.
	maxLoose      = 20
	maxLooseBytes = 8 << 10
	// maxLooseFindings is from when on a run names one file of each path only.
	maxLooseFindings = 1000
	// maxDatedName bounds the one name that is kept for a time.
	maxDatedName = 1 << 10
)

// watch has what hashes tell m.
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
	opts.OnCapabilities = func(name string) { add(name, "file capabilities", "") }
	opts.OnTime = func(name string, sec, nsec int64) {
		if m.dated++; m.first.what == "" && len(name) <= maxDatedName {
			m.first = looseFile{name: name, what: time.Unix(sec, nsec).UTC().Format(time.RFC3339Nano)}
		}
	}
}

// judgeMetadata adds a finding for each right that Nix never gives. One that
// takes rights away (0500) is a departure like one that gives them: Nix makes
// its objects all alike, so somebody else was here.
func (r *run) judgeMetadata(p closure.StorePath, m *metadata) {
	loose, more := m.loose, m.more
	if len(loose) > 1 && r.looseFindings >= maxLooseFindings {
		loose, more = loose[:1], more+len(loose)-1
	}
	if len(loose) == 0 && more > 0 {
		// Each name is too long to be kept.
		loose, more = []looseFile{{what: "owner, mode or capabilities of a file"}}, more-1
	}
	r.looseFindings += len(loose)
	for i, l := range loose {
		f := report.Finding{
			Tier: report.TierContents, Cause: report.PermissionsAltered, Path: joinFile(string(p), l.name),
			Want: l.want, Got: l.what,
		}
		if i == len(loose)-1 && more > 0 {
			f.Detail = fmt.Sprintf("and %d more in this path", more)
		}
		r.find(f)
	}
}

// maxDated bounds the paths of which it is said that their times are altered.
const maxDated = 20

// noteTimes says which paths have times that Nix never sets. It is a notice: a
// time gives nobody a right, whoever alters a file can set it as he likes, and
// some honest tools that write images set another one on everything; but a file
// that somebody wrote to, and wrote back, shows by it. Where it is many paths it
// is likely the image, and one notice for all. Of a path whose bytes are not the
// release's it says nothing new.
func (r *run) noteTimes(paths []closure.PathInfo, observed []observation) {
	var dated []int
	files := 0
	for i := range observed {
		o := &observed[i]
		if n := o.metadata.dated; n > 0 && o.err == nil && o.sum.Hash == paths[i].NarHash {
			dated = append(dated, i)
			files += n
		}
	}
	say := func(i int, detail string) {
		m := &observed[i].metadata
		r.find(report.Finding{
			Tier: report.TierContents, Cause: report.TimeAltered, Path: joinFile(string(paths[i].Path), m.first.name),
			Want: time.Unix(1, 0).UTC().Format(time.RFC3339Nano), Got: m.first.what, Detail: detail,
		})
	}
	if len(dated) > maxDated {
		say(dated[0], fmt.Sprintf("this one first, of %d files and directories in %d paths", files, len(dated)))
		return
	}
	for _, i := range dated {
		detail := ""
		if n := observed[i].metadata.dated; n > 1 {
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
