package imagecheck

import (
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// Class is the effect of a finding on the verdict.
type Class string

// The classes.
const (
	Drift        Class = "drift"
	Inconclusive Class = "inconclusive"
)

// Kind is the kind of a finding, a stable word.
type Kind string

// The kinds of findings.
const (
	Checksum     Kind = "checksum"      // another digest than in SHA256SUMS.txt
	Unknown      Kind = "unknown-image" // the release has no such image
	PathAltered  Kind = "path-altered"  // a store path has other contents
	PathMissing  Kind = "path-missing"
	PathExtra    Kind = "path-extra"   // a store path that is not in the manifest
	MemberExtra  Kind = "member-extra" // a member that nothing vouches for
	Attributes   Kind = "attributes"   // e.g. a set-user-ID bit, which a NAR does not have
	Boot         Kind = "boot"         // another kernel, initrd or system is started
	Registration Kind = "registration" // Nix would register other data than the manifest's
	Unreadable   Kind = "unreadable"
	NotChecked   Kind = "not-checked" // something that was requested could not be checked
)

// Finding is one thing that is wrong with an image.
type Finding struct {
	Class Class `json:"class"`
	Kind  Kind  `json:"kind"`
	// Where names the nested image and the member; empty for the whole file.
	Where  excerpt.Raw       `json:"where,omitzero"`
	Path   closure.StorePath `json:"path,omitzero"`
	Want   excerpt.Raw       `json:"want,omitzero"`
	Got    excerpt.Raw       `json:"got,omitzero"`
	Detail string            `json:"detail,omitzero"`
	// Files are the differing files of a store path, if the release's listing has
	// them; MoreFiles counts those left out.
	Files     []closure.FileChange `json:"files,omitzero"`
	MoreFiles int                  `json:"moreFiles,omitzero"`
}

// Image is the result for one file or device.
type Image struct {
	File   excerpt.Raw `json:"file"`  // as given by the user
	Asset  string      `json:"asset"` // of the release; "" if unknown
	Device bool        `json:"device"`
	Size   int64       `json:"size"` // of the image in bytes
	// Beyond is how many bytes of a device follow the image and were not examined.
	Beyond int64 `json:"beyond"`
	// Intact means that the digest is the one in SHA256SUMS.txt.
	Intact bool `json:"intact"`
	// Inside counts what was compared in the image; nil if its contents were not
	// checked.
	Inside   *Inside   `json:"inside"`
	Findings []Finding `json:"findings"`
	More     int       `json:"more"` // findings beyond those listed
}

// Inside counts what was compared in an image.
type Inside struct {
	Configuration string `json:"configuration"`
	Paths         int    `json:"paths"` // store paths that were hashed
	// Files counts other members that the manifest vouches for: a kernel, an initrd.
	Files int `json:"files"`
	// Others counts members that are only covered by the image's checksum.
	Others int `json:"others"`
	// OtherNames are the names of the first of them, at most maxOthers.
	OtherNames []excerpt.Raw `json:"otherNames"`
}

// maxOthers limits OtherNames.
const maxOthers = 500

// Result is the result of a check.
type Result struct {
	Images []Image `json:"images"`
	// Absent are the release's images that were not among those checked.
	Absent []string `json:"absent"`
}

const (
	// maxFindings limits the findings of one image.
	maxFindings = 500
	// maxText limits each text of a finding and each name, in bytes: a name in nested
	// images may have 100 KiB.
	maxText = 4 << 10
)

// cut shortens untrusted text to maxText bytes.
func cut[S ~string](s S) S { return S(excerpt.Of(string(s), maxText)) }

func (i *Image) add(f Finding) {
	if len(i.Findings) >= maxFindings {
		i.More++
		return
	}
	f.Where, f.Want, f.Got, f.Detail = cut(f.Where), cut(f.Want), cut(f.Got), cut(f.Detail)
	i.Findings = append(i.Findings, f)
}

// Class returns Drift if anything differs, Inconclusive if something could not be
// checked or there was nothing to check, and "" otherwise.
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
