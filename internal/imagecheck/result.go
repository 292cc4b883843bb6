package imagecheck

import (
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// Class says what a finding means for the verdict.
type Class string

// The classes.
const (
	Drift        Class = "drift"
	Inconclusive Class = "inconclusive"
)

// Kind says what was found; it is a stable word.
type Kind string

// The kinds of findings.
const (
	Checksum     Kind = "checksum"      // not the bytes that SHA256SUMS.txt names
	Unknown      Kind = "unknown-image" // the release has no such image
	PathAltered  Kind = "path-altered"  // a store path has other contents
	PathMissing  Kind = "path-missing"
	PathExtra    Kind = "path-extra"   // a store path that the manifest does not have
	MemberExtra  Kind = "member-extra" // something that nothing vouches for
	Attributes   Kind = "attributes"   // e.g. a set-user-ID bit, which a NAR does not show
	Boot         Kind = "boot"         // another kernel, initrd or system is started
	Registration Kind = "registration" // what Nix would register is not the manifest's
	Unreadable   Kind = "unreadable"
	NotChecked   Kind = "not-checked" // something that was asked for could not be checked
)

// Finding is one thing that is wrong with an image. Strings hold raw bytes.
type Finding struct {
	Class Class
	Kind  Kind
	// Where names the image within the file, and the member; empty for the file.
	Where  string
	Path   closure.StorePath
	Want   string
	Got    string
	Detail string
	// Files are those of a store path that differ, where the release's listing
	// tells; MoreFiles counts those that it leaves out.
	Files     []closure.FileChange
	MoreFiles int
}

// Image is what was found of one file or device.
type Image struct {
	File   string // as it was named
	Asset  string // of the release; "" where none is known
	Device bool
	Size   int64 // of the image in bytes
	// Beyond is how many bytes of a device lie behind the image, and were not
	// looked at.
	Beyond int64
	// Intact says that its bytes are those that SHA256SUMS.txt names.
	Intact bool
	// Inside says what was compared in it; nil where it was not gone into.
	Inside   *Inside
	Findings []Finding
	More     int // findings beyond those that are listed
}

// Inside counts what was compared in an image.
type Inside struct {
	Configuration string
	Paths         int // store paths that were hashed
	// Files are members elsewhere that the manifest vouches for: a kernel, an
	// initrd.
	Files int
	// Others are members that the checksum of the image alone vouches for.
	Others int
	// OtherNames are the names of the first of them, at most maxOthers.
	OtherNames []string
}

// maxOthers bounds the names of what the checksum alone vouches for.
const maxOthers = 500

// Result is what a check found.
type Result struct {
	Images []Image
	// Absent are the images of the release that were not among those checked.
	Absent []string
}

const (
	// maxFindings bounds the findings of one image.
	maxFindings = 500
	// maxText bounds each text of a finding and each name, in bytes: a name in an
	// image, with those of the images around it, may have 100 KiB.
	maxText = 4 << 10
)

// cut shortens what an outsider wrote to maxText bytes.
func cut(s string) string { return excerpt.Of(s, maxText) }

func (i *Image) add(f Finding) {
	if len(i.Findings) >= maxFindings {
		i.More++
		return
	}
	f.Where, f.Want, f.Got, f.Detail = cut(f.Where), cut(f.Want), cut(f.Got), cut(f.Detail)
	i.Findings = append(i.Findings, f)
}

// Class returns Drift where anything differs, Inconclusive where something could
// not be checked or there was nothing to check, and "" where all is well.
func (r *Result) Class() Class {
	class := Class("")
	if len(r.Images) == 0 {
		class = Inconclusive
	}
	for _, i := range r.Images {
		for _, f := range i.Findings {
			if f.Class == Drift {
				return Drift
			}
			class = Inconclusive
		}
		if i.More > 0 {
			return Drift
		}
		if !i.Intact {
			class = Inconclusive
		}
	}
	return class
}
