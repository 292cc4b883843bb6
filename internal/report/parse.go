package report

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// Parse reads a report as [Decode] does, and returns all of it.
func Parse(data []byte) (*Report, error) {
	in, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := in.Report
	r.Coverage, r.Closure, r.More = in.Coverage.Coverage, in.Closure, in.Counts
	for _, t := range r.Tiers {
		if !isWord(string(t.Name)) || !isWord(string(t.Status)) {
			return nil, fmt.Errorf("read report: tier %q has the status %q", clipped(string(t.Name)), clipped(string(t.Status)))
		}
	}
	for i := range in.Findings {
		f, err := in.Findings[i].finding()
		if err != nil {
			return nil, fmt.Errorf("read report: finding %d: %w", i+1, err)
		}
		if !isWord(string(f.Cause)) || !isWord(string(f.Tier)) || f.ConsequenceOf != "" && !isWord(string(f.ConsequenceOf)) {
			return nil, fmt.Errorf("read report: finding %d: its tier %q, its cause %q or its consequenceOf %q is not a name", i+1,
				clipped(string(f.Tier)), clipped(string(f.Cause)), clipped(string(f.ConsequenceOf)))
		}
		r.More[f.Class()]--
		r.Findings = append(r.Findings, f)
	}
	return &r, nil
}

func (in *jsonFinding) finding() (Finding, error) {
	f := in.Finding
	if _, known := causes[in.Cause]; !known {
		f.class = in.Class
	}
	if in.PathBase64 != nil {
		raw, err := base64.StdEncoding.DecodeString(*in.PathBase64)
		if err != nil {
			return f, errors.New("pathBase64 is no base64")
		}
		f.Path = string(raw)
	}
	for _, file := range in.Files {
		change := closure.FileChange{Kind: file.Change}
		switch {
		case file.Name != nil:
			change.Path = excerpt.Raw(*file.Name)
		case file.NameBase64 != nil:
			raw, err := base64.StdEncoding.DecodeString(*file.NameBase64)
			if err != nil {
				return f, errors.New("nameBase64 is no base64")
			}
			change.Path = excerpt.Raw(raw)
		}
		var err error
		if change.Want, err = undescribe(string(change.Path), file.Want); err != nil {
			return f, err
		}
		if change.Got, err = undescribe(string(change.Path), file.Got); err != nil {
			return f, err
		}
		f.Files = append(f.Files, change)
	}
	return f, nil
}

// undescribe is the inverse of describe.
func undescribe(path, s string) (nar.Entry, error) {
	e := nar.Entry{Path: path}
	switch s {
	case "":
		return nar.Entry{}, nil
	case "directory":
		e.Type = nar.Directory
		return e, nil
	}
	if target, ok := strings.CutPrefix(s, "symlink to "); ok {
		e.Type = nar.Symlink
		var err error
		if e.Target, err = strconv.Unquote(`"` + strings.ReplaceAll(target, `"`, `\"`) + `"`); err != nil {
			return e, fmt.Errorf("%q is no target of a link", clipped(target))
		}
		return e, nil
	}
	e.Type = nar.Regular
	s, e.Executable = strings.CutPrefix(s, "executable ")
	var hash string
	if n, err := fmt.Sscanf(s, "regular %d bytes %s", &e.Size, &hash); n != 2 || err != nil || e.Size < 0 {
		return e, fmt.Errorf("%q does not describe a file", clipped(s))
	}
	var err error
	e.SHA256, err = nar.ParseHash(hash)
	return e, err
}

// isWord reports whether a name can be one of this program's, in this or another version:
// lower-case letters, digits and hyphens. Such names are shown unescaped.
func isWord(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
}
