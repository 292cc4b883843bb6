package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/netboot"
	"every.channel/ec-verify/internal/report"
)

func newNetbootCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "netboot", Short: "serve verified releases to machines that boot from the network"},
		newNetbootStageCommand(a), newNetbootCheckCommand(a), newNetbootRenderCommand())
}

// stageSummary is what the commands say of a stage. It is the object that
// --output json prints.
type stageSummary struct {
	SchemaVersion int    `json:"schemaVersion"`
	Tag           string `json:"tag"`
	Stage         string `json:"stage"`
	Sums          string `json:"sums"`
	Tarball       string `json:"tarball"`
	URL           string `json:"url"`
	Fetched       bool   `json:"fetched"`
	Switched      bool   `json:"switched"`
	Replaced      string `json:"replaced"`
}

func (a *app) printStage(headline string, s stageSummary) error {
	if a.output == "json" {
		return a.printJSON(&s)
	}
	lines := []string{
		headline,
		"  stage    " + s.Stage,
		"  from     " + s.Tarball + ", SHA-256 of SHA256SUMS.txt " + s.Sums,
		"  as       " + s.URL,
	}
	if s.Replaced != "" {
		lines = append(lines, "  before   "+s.Replaced+", kept for machines in the midst of a boot")
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.stdout, report.Escape(line)); err != nil {
			return err
		}
	}
	return nil
}

func newNetbootCheckCommand(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check that what is served is what was staged",
		Long: `Hold the files of the stage that is served to what was written down when its
release was verified, byte for byte. That is for damage and for slips: who can
write to the directory can change what was written down as well.

Exit codes: 0 it is whole; 1 it was altered or damaged since; 4 nothing is
staged, or it could not be read. Stage it again to mend it.`,
		Example: "  ec-verify netboot check --dir /var/lib/every-channel-netboot/www",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usageError{errors.New("--dir DIR is missing: say where releases are staged")}
			}
			s := netboot.Stager{Dir: dir}
			name, record, err := s.CheckCurrent(cmd.Context())
			var altered *netboot.AlteredError
			if errors.As(err, &altered) {
				a.complain(err)
				return verdictError{report.Drifted}
			}
			if err != nil {
				return err
			}
			if name == "" {
				return fmt.Errorf("nothing is staged in %s; run ec-verify netboot stage", dir)
			}
			return a.printStage(fmt.Sprintf("release %s is served, and whole", record.Tag), stageSummary{
				SchemaVersion: 1, Tag: string(record.Tag), Stage: name, Sums: record.Sums, Tarball: record.Tarball, URL: string(record.URL),
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "releases are staged in the directory `DIR` (required)")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
	return cmd
}

func newNetbootRenderCommand() *cobra.Command {
	var out, url, tokenFile string
	var files []string
	cmd := &cobra.Command{
		Use:   "render",
		Short: "write what the boot host's servers need",
		Long: `Write into the directory OUT, which must exist: tftp/, with the script that
leads machines to what is staged and the files that firmware asks for; and
token.map, which nginx includes. They hold the chain token and are for this user
and its group only.

The unit every-channel-netboot does this each time it starts.`,
		Example: `  ec-verify netboot render --out /run/every-channel-netboot --url http://10.0.0.2 \
    --chain-token-file /etc/ec-verify/chain-token --tftp ec-ipxe.efi=/srv/ipxe/ipxe.efi`,
		Args: noArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			switch {
			case out == "":
				return usageError{errors.New("--out DIR is missing: say where to write")}
			case tokenFile == "":
				return usageError{errors.New("--chain-token-file FILE is missing: make one with openssl rand -hex 16")}
			}
			base, err := netboot.ParseBaseURL(url)
			if err != nil {
				return usageError{fmt.Errorf("--url: %w", err)}
			}
			links := make(map[string]string)
			for _, f := range files {
				name, target, ok := strings.Cut(f, "=")
				if !ok || !filepath.IsAbs(target) {
					return usageError{fmt.Errorf("--tftp %q: want NAME=FILE with an absolute FILE", f)}
				}
				if err := netboot.CheckTFTPName(name); err != nil {
					return usageError{fmt.Errorf("--tftp: %w", err)}
				}
				links[name] = target
			}
			token, err := netboot.ReadChainToken(tokenFile)
			if err != nil {
				return configError{err}
			}
			return netboot.Render(out, base, token, links)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "write into the directory `OUT` (required)")
	f.StringVar(&url, "url", "", "machines reach this host at `URL`, e.g. http://10.0.0.2 (required)")
	f.StringVar(&tokenFile, "chain-token-file", "", "the URLs hold the token in `FILE` (required)")
	f.StringArrayVar(&files, "tftp", nil, "serve a file by TFTP, as `NAME=FILE`; may be repeated")
	for _, err := range []error{cmd.MarkFlagDirname("out"), cmd.MarkFlagFilename("chain-token-file")} {
		if err != nil {
			panic(err)
		}
	}
	return cmd
}
