package terminal

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// ReleaseKind is the kind of the object that --output json prints of a release.
const ReleaseKind = "ec-release"

// ReleaseSummary describes a trusted release. It is the object that --output json prints;
// docs/releasing.md documents it.
type ReleaseSummary struct {
	SchemaVersion  int         `json:"schemaVersion"`
	Kind           string      `json:"kind"`
	Tool           string      `json:"tool"`
	Verdict        string      `json:"verdict"`
	Tag            release.Tag `json:"tag"`
	Commit         string      `json:"commit"`
	CreatedAt      time.Time   `json:"createdAt"`
	BestBefore     time.Time   `json:"bestBefore"`
	Configurations []string    `json:"configurations"`
	// Systems are the store paths of the systems, by configuration.
	Systems map[string]closure.StorePath `json:"systems"`
	Signer  release.Signer               `json:"signer"`
	Source  string                       `json:"source"`
	Assets  int                          `json:"assets"`
	Sums    string                       `json:"sums"`
	Unsafe  []string                     `json:"unsafe"`
	Notes   []string                     `json:"notes"`

	unsigned bool
}

// Summarize returns the summary of r.
func Summarize(ctx context.Context, r *release.Release) ReleaseSummary {
	i := r.Info()
	return ReleaseSummary{
		SchemaVersion: 1, Kind: ReleaseKind, Tool: ToolVersion(), Verdict: report.Verified.String(), Tag: r.Tag(), Commit: i.Commit, CreatedAt: i.CreatedAt, BestBefore: i.BestBefore,
		Configurations: i.Configurations, Systems: SystemsOf(ctx, r), Signer: r.Signer(), Source: r.Source(), Assets: r.Sums().Len(),
		Sums: r.Digest().String(), Unsafe: r.Unsafe(), Notes: r.Notes(), unsigned: r.Unsigned(),
	}
}

// Text implements [Result]: the release is trusted, and why.
func (s ReleaseSummary) Text(screen Screen) string {
	headline := fmt.Sprintf("release %s is trusted", s.Tag)
	if s.unsigned {
		headline = fmt.Sprintf("release %s was accepted without checking its signature (unsafe)", s.Tag)
	}
	lines := []string{
		headline,
		"  from            " + s.Source,
		"  signed by       " + s.Signer.String(),
		"  created         " + s.CreatedAt.Format(time.RFC3339) + ", best before " + s.BestBefore.Format(time.RFC3339),
		"  commit          " + cmp.Or(s.Commit, "none stated"),
		"  configurations  " + strings.Join(s.Configurations, ", "),
	}
	for _, name := range s.Configurations {
		if system, known := s.Systems[name]; known {
			lines = append(lines, fmt.Sprintf("  system          %s (%s)", system, name))
		}
	}
	lines = append(lines, fmt.Sprintf("  assets          %d, SHA-256 of %s %s", s.Assets, release.SumsName, s.Sums))
	for _, u := range s.Unsafe {
		lines = append(lines, "  unsafe          "+u)
	}
	for _, n := range s.Notes {
		lines = append(lines, "  note            "+n)
	}
	return screen.Lines(lines)
}

// WatchFetch shows how reading a release goes on, and says each time that a source
// is asked again.
func (t *Terminal) WatchFetch(p *release.Progress) (stop func()) {
	p.OnNotice(func(line string) { t.Note(report.Escape(line)) })
	end := t.Watch(func() Sample {
		s := p.Snapshot()
		detail := s.Asset
		if s.Asset != "" && s.Done == 0 && s.Total < 0 {
			detail = "waiting for " + s.Asset
		}
		return Sample{What: "fetch", Done: s.Done, Total: max(0, s.Total), Detail: detail}
	})
	return func() {
		end()
		p.OnNotice(nil)
	}
}

// SystemsOf returns the store paths of r's systems, as far as their manifests are
// available.
func SystemsOf(ctx context.Context, r *release.Release) map[string]closure.StorePath {
	systems := make(map[string]closure.StorePath)
	for _, name := range r.Info().Configurations {
		if m, err := r.Manifest(ctx, name); err == nil {
			systems[name] = m.Toplevel.OutPath
		}
	}
	return systems
}
