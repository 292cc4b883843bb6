package boothost

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

func newNetbootCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "netboot", Short: "serve verified releases to machines that boot from the network"},
		newNetbootStageCommand(a), newNetbootCheckCommand(a), newNetbootRollbackCommand(a), newNetbootClearCommand(a), newNetbootRenderCommand())
}

// netbootKind is the kind of the objects that --output json prints.
const netbootKind = "ec-netboot"

// stageSummary describes a stage. It is the object that --output json prints;
// docs/NUC_UNIFI_NETBOOT.md documents it.
type stageSummary struct {
	SchemaVersion int    `json:"schemaVersion"`
	Kind          string `json:"kind"`
	Verdict       string `json:"verdict"`
	Tag           string `json:"tag"`
	Stage         string `json:"stage"`
	Sums          string `json:"sums"`
	Tarball       string `json:"tarball"`
	URL           string `json:"url"`
	// Of a change.
	Fetched  *bool   `json:"fetched,omitzero"`
	Switched *bool   `json:"switched,omitzero"`
	Replaced *string `json:"replaced,omitzero"`
	// Of a check.
	Findings []stageFinding `json:"findings,omitzero"`

	headline string // of the text
}

// stageFinding is one fault in what is served.
type stageFinding struct {
	// Role is current, previous or stray.
	Role    string         `json:"role"`
	Stage   excerpt.Raw    `json:"stage"`
	Verdict string         `json:"verdict"`
	Reason  release.Reason `json:"reason,omitzero"`
	Detail  string         `json:"detail"`
}

func summarizeStage(stage string, r netboot.Record) stageSummary {
	return stageSummary{
		SchemaVersion: 1, Kind: netbootKind, Verdict: report.Verified.String(),
		Tag: string(r.Tag), Stage: stage, Sums: r.Sums, Tarball: r.Tarball, URL: string(r.URL),
	}
}

// changedStage returns the summary of what a command did.
func changedStage(headline string, staged *netboot.Staged) *stageSummary {
	s := summarizeStage(staged.Name, staged.Record)
	s.headline, s.Fetched, s.Switched, s.Replaced = headline, &staged.Fetched, &staged.Switched, &staged.Replaced
	return &s
}

// Text implements [terminal.Result].
func (s *stageSummary) Text(screen terminal.Screen) string {
	lines := []string{s.headline}
	if s.Stage != "" {
		lines = append(lines,
			"  stage    "+s.Stage,
			"  from     "+s.Tarball+", SHA-256 of SHA256SUMS.txt "+s.Sums,
			"  as       "+s.URL,
		)
	}
	if s.Replaced != nil && *s.Replaced != "" {
		lines = append(lines, "  before   "+*s.Replaced+", kept for machines that are booting")
	}
	return screen.Lines(lines)
}

// parseURLFlag reads the flag --url.
func parseURLFlag(url string) (netboot.BaseURL, error) {
	if url == "" {
		return "", terminal.UsageErrorf("--url URL is missing: say how machines reach this host, e.g. http://10.0.0.2")
	}
	base, err := netboot.ParseBaseURL(url)
	if err != nil {
		return "", terminal.UsageErrorf("--url: %w", err)
	}
	return base, nil
}

// registerStageDir adds the flag --dir.
func registerStageDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "the releases are staged in the directory `DIR` (required)")
}

func checkStageDir(dir string) error {
	if dir == "" {
		return terminal.UsageErrorf("--dir DIR is missing: name the directory of the stages")
	}
	return nil
}

// openStaged returns a function that opens the release of a stage. c says which keys are
// trusted, m which releases are revoked. A release was accepted when it was staged; it
// stays so if a newer one was accepted since, or the configuration lists its tag no more.
func openStaged(c config.Config, m *release.Memory) (func(context.Context, string, release.Tag) (*release.Release, error), error) {
	if c.UnsafeUnsigned {
		return nil, terminal.UsageError(netboot.ErrUnsigned)
	}
	verifier, err := configured.Verifier(c)
	if err != nil {
		return nil, err
	}
	opts := append(configured.Options(c), release.WithRevocations(m))
	return func(ctx context.Context, dir string, tag release.Tag) (*release.Release, error) {
		return release.Open(ctx, release.NewDirSource(dir), tag, verifier, opts...)
	}, nil
}

// openKept is openStaged with the revoked releases that this host's state directory
// remembers.
func openKept(c config.Config) (func(context.Context, string, release.Tag) (*release.Release, error), error) {
	m, err := release.ReadMemory(c.StateDir)
	if err != nil {
		return nil, err
	}
	return openStaged(c, m)
}

func newNetbootRenderCommand() *cobra.Command {
	var out, url, tokenFile string
	var files []string
	cmd := &cobra.Command{
		Use:   "render",
		Short: "write the configuration of the boot host's servers",
		Long: `Write to the directory OUT, which must exist: tftp/, with the script that sends
machines to the staged release and the files that firmware requests; and
token.map, which nginx includes. These files contain the chain token; only this
user and its group can read them.

The unit every-channel-netboot runs this command each time it starts.`,
		Example: `  ec-verify netboot render --out /run/every-channel-netboot \
    --url http://10.0.0.2 \
    --chain-token-file /etc/ec-verify/chain-token \
    --tftp ec-ipxe.efi=/srv/ipxe/ipxe.efi`,
		Args: terminal.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			switch {
			case out == "":
				return terminal.UsageErrorf("--out DIR is missing: name a directory")
			case tokenFile == "":
				return terminal.UsageErrorf("--chain-token-file FILE is missing: make one with openssl rand -hex 16")
			}
			base, err := parseURLFlag(url)
			if err != nil {
				return err
			}
			links := make(map[string]string)
			for _, f := range files {
				name, target, ok := strings.Cut(f, "=")
				if !ok || !filepath.IsAbs(target) {
					return terminal.UsageErrorf("--tftp %q: want NAME=FILE with an absolute FILE", f)
				}
				if err := netboot.CheckTFTPName(name); err != nil {
					return terminal.UsageErrorf("--tftp: %w", err)
				}
				links[name] = target
			}
			token, err := netboot.ReadChainToken(tokenFile)
			if err != nil {
				return terminal.ConfigError(err)
			}
			return netboot.Render(out, base, token, links)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "write to the directory `OUT` (required)")
	f.StringVar(&url, "url", "", "the `URL` at which machines reach this host, e.g. http://10.0.0.2 (required)")
	f.StringVar(&tokenFile, "chain-token-file", "", "put the token in `FILE` into the URLs (required)")
	f.StringArrayVar(&files, "tftp", nil, "serve a file by TFTP, as `NAME=FILE`; may be repeated")
	return cmd
}
