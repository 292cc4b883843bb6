package publisher

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/imagecheck"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

type imagesFlags struct {
	trust   configured.Flags
	against string
	opts    imagecheck.Options
}

func newImagesCommand(a *app) *cobra.Command {
	var flags imagesFlags
	cmd := &cobra.Command{
		Use:   "images PATH...",
		Short: "check images and USB sticks against a release",
		Long: `Check image files against the release TAG before they are used. Each PATH is a
file, a directory of files, or a block device that an image was written to.

Every file is compared with SHA256SUMS.txt of the release, whose signature is
checked first. A renamed file is recognized by its bytes. On a device, the
image must start at the first byte; whatever follows the image is not examined.

Any user can run this: nothing is stored, and no write permission is needed.
Without a configuration, --release names the source of the release and --key
the trusted key.

With --inside, the contents of the images are checked too (tar, ISO, squashfs,
initrd): every store path in them is hashed and compared with the closure
manifest, and the kernel, the initrd and the started system must be the
manifest's. That shows that the published image was made from the release's
system.

Exit codes: 0 everything is the release's; 1 something is not; 3 the release is
not trusted; 4 something could not be checked.`,
		Example: `  ec-verify images ~/Downloads/ec-runner-x86_64-iso-boot-v2026.02.28.iso \
    --against boot-v2026.02.28 \
    --release https://forge.example.org/owner/repo/releases/download \
    --key release.pub
  ec-verify images /dev/sdb --against boot-v2026.02.28 --inside
  ec-verify images dist/ --against boot-v2026.02.28 --release ./dist \
    --key release.pub --inside`,
		Args: terminal.ArgCount(1, 4096, "one path or more"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.images(cmd, args, flags) },
	}
	flags.trust.RegisterRelease(cmd)
	flags.trust.RegisterUnsafe(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.against, "against", "", "compare with the release `TAG`, or latest (required)")
	f.BoolVar(&flags.opts.Inside, "inside", false, "also compare the contents of the images with the closure manifest")
	f.StringVar(&flags.opts.Configuration, "configuration", "", "the images contain the configuration `NAME` (default: by their file names)")
	f.StringVar(&flags.opts.As, "as", "", "compare the one file or device with the asset `NAME`")
	f.StringVar(&flags.opts.TempDir, "temp-dir", "", "unpack nested images to `DIR` while they are read (default: TMPDIR)")
	return cmd
}

func (a *app) images(cmd *cobra.Command, names []string, flags imagesFlags) error {
	if flags.against == "" {
		return terminal.UsageErrorf("--against TAG is missing: name the release of the images")
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			return err
		}
	}
	c, err := flags.trust.Load(a.Terminal)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	fetching := new(release.Progress)
	finder, err := configured.Looker(c, fetching)
	if err != nil {
		return err
	}
	stop := a.WatchFetch(fetching)
	r, err := configured.Find(ctx, finder, flags.against)
	stop()
	if err != nil {
		return a.Refused(imagesKind, err)
	}
	var mu sync.Mutex
	var now terminal.Sample
	flags.opts.Progress = func(name string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		now = terminal.Sample{What: "read", Done: done, Total: total, Detail: name}
	}
	stop = a.Watch(func() terminal.Sample {
		mu.Lock()
		defer mu.Unlock()
		return now
	})
	result, err := imagecheck.Check(ctx, r, names, flags.opts)
	stop()
	if err != nil {
		return a.Refused(imagesKind, err)
	}
	err = a.Show(&checkedImages{
		SchemaVersion: 1, Kind: imagesKind, Tool: terminal.ToolVersion(), Verdict: imagesVerdict(result.Class()),
		Tag: r.Tag(), Unsigned: r.Unsigned(), Result: *result,
	})
	if err != nil {
		return err
	}
	switch result.Class() {
	case "":
		return nil
	case imagecheck.Drift:
		return terminal.VerdictError(report.Drifted)
	}
	return terminal.VerdictError(report.Unsettled)
}

// imagesVerdict is the word of reports for a class.
func imagesVerdict(c imagecheck.Class) string {
	switch c {
	case "":
		return "verified"
	case imagecheck.Drift:
		return "drifted"
	}
	return "inconclusive"
}

// imagesKind is the kind of the object that --output json prints.
const imagesKind = "ec-images"

// checkedImages is the result of images, and what --output json prints of it;
// docs/releasing.md describes it.
type checkedImages struct {
	SchemaVersion int         `json:"schemaVersion"`
	Kind          string      `json:"kind"`
	Tool          string      `json:"tool"`
	Verdict       string      `json:"verdict"`
	Tag           release.Tag `json:"tag"`
	Unsigned      bool        `json:"unsigned"`
	imagecheck.Result
}

// Text implements [terminal.Result].
func (c *checkedImages) Text(terminal.Screen) string {
	var b strings.Builder
	intact := 0
	for _, i := range c.Images {
		if i.Intact && len(i.Findings) == 0 {
			intact++
		}
	}
	unsigned := ""
	if c.Unsigned {
		unsigned = " (the signature was NOT CHECKED)"
	}
	fmt.Fprintf(&b, "%s: %d of %s of release %s%s\n", c.Verdict, intact, terminal.Plural(len(c.Images), "file is", "files are"), c.Tag, unsigned)
	for _, i := range c.Images {
		fmt.Fprintf(&b, "\n%s\n", report.Escape(string(i.File)))
		writeImage(&b, &i)
	}
	if len(c.Absent) > 0 {
		fmt.Fprintf(&b, "\nnot here: %s\n", report.Escape(strings.Join(c.Absent, ", ")))
	}
	return b.String()
}

// othersText names the files that only the checksum covers.
func othersText(in *imagecheck.Inside) string {
	if len(in.OtherNames) == 0 {
		return ""
	}
	text := ": "
	shown := in.OtherNames[:min(len(in.OtherNames), compareShown)]
	for i, name := range shown {
		if i > 0 {
			text += ", "
		}
		text += report.Escape(string(name))
	}
	if in.Others > len(shown) {
		text += ", … (--output json lists them)"
	}
	return text
}

func writeImage(b *strings.Builder, i *imagecheck.Image) {
	if i.Intact {
		fmt.Fprintf(b, "  is %s, %s\n", i.Asset, humanize.IBytes(uint64(i.Size)))
	}
	if i.Beyond > 0 {
		fmt.Fprintf(b, "  %s behind it were not checked\n", humanize.IBytes(uint64(i.Beyond)))
	}
	if in := i.Inside; in != nil {
		fmt.Fprintf(b, "  inside (%s): %s hashed, %s the manifest vouches for; the checksum alone for %s%s\n",
			in.Configuration, terminal.Plural(in.Paths, "store path", "store paths"), terminal.Plural(in.Files, "other thing that", "other things that"), terminal.Plural(in.Others, "more", "more"), othersText(in))
	}
	for n, f := range i.Findings {
		if n == compareShown {
			fmt.Fprintf(b, "  and %d more (--output json lists them)\n", len(i.Findings)+i.More-n)
			break
		}
		line := fmt.Sprintf("  %s [%s]", f.Class, f.Kind)
		if f.Path != "" {
			line += " " + string(f.Path)
		}
		if f.Where != "" {
			line += " in " + report.Escape(string(f.Where))
		}
		if f.Detail != "" {
			line += ": " + report.Escape(terminal.Clipped(f.Detail))
		}
		fmt.Fprintln(b, line)
		if f.Want != "" || f.Got != "" {
			fmt.Fprintf(b, "    want %s\n    got  %s\n", terminal.Value(f.Want), terminal.Value(f.Got))
		}
		for k, c := range f.Files {
			if k == compareShown {
				f.MoreFiles += len(f.Files) - k
				break
			}
			fmt.Fprintf(b, "    %s: %s\n", report.Escape(string(c.Path)), c.Kind)
		}
		if f.MoreFiles > 0 {
			fmt.Fprintf(b, "    and %d more files\n", f.MoreFiles)
		}
	}
}
