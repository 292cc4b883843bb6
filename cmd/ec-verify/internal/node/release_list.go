package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// listed is one line of release list.
type listed struct {
	Tag release.Tag `json:"tag"`
	// State is "trusted", "not checked" for one that was not fetched, "refused"
	// or "failed".
	State string `json:"state"`
	// Why names the signer, or says what is wrong.
	Why        string     `json:"why"`
	Where      string     `json:"where"`
	CreatedAt  *time.Time `json:"createdAt,omitzero"`
	BestBefore *time.Time `json:"bestBefore,omitzero"`
	// Sums is the SHA-256 of its SHA256SUMS.txt; "" for one that is not trusted.
	Sums string `json:"sums,omitempty"`
	// Systems are the store paths of its systems, by configuration; none if the release
	// is not kept here.
	Systems map[string]closure.StorePath `json:"systems,omitempty"`
	// Accepted says that the configuration lists the tag.
	Accepted bool `json:"accepted"`
}

func newReleaseListCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var cached bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the releases in the cache and in the sources",
		Long: `List the releases in this machine's cache, each checked now, and those that
the sources offer. Offered releases are neither fetched nor checked.`,
		Example: `  ec-verify release list
  ec-verify release list --cached --output json`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			list, err := listReleases(cmd.Context(), c, cached)
			if err != nil && list == nil {
				return err
			}
			// What could be listed is shown even if a source could not be asked.
			if printErr := a.Show(&releaseList{1, list}); printErr != nil {
				return printErr
			}
			return err
		},
	}
	flags.RegisterRelease(cmd)
	flags.RegisterUnsafe(cmd)
	cmd.Flags().BoolVar(&cached, "cached", false, "list only cached releases; ask no source")
	return cmd
}

func listReleases(ctx context.Context, c config.Config, cachedOnly bool) ([]listed, error) {
	verifier, err := configured.Verifier(c)
	if err != nil {
		return nil, err
	}
	memory, err := release.ReadMemory(c.StateDir)
	if err != nil {
		return nil, err
	}
	var list []listed
	cache := release.NewDirSource(configured.CacheDir(c))
	tags, err := cache.Tags(ctx)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		list = append(list, look(ctx, cache, tag, verifier, append(configured.Options(c), release.WithRevocations(memory))))
	}
	var failed error
	if !cachedOnly && len(c.Release.Source) > 0 {
		sources, err := configured.Sources(c)
		if err != nil {
			return nil, err
		}
		for _, s := range sources {
			offered, err := listOffered(ctx, s, memory)
			list = append(list, offered...)
			failed = cmp.Or(failed, err)
		}
	}
	for i := range list {
		list[i].Accepted = slices.Contains(c.Release.Accept, string(list[i].Tag))
	}
	return list, failed
}

// listOffered returns the releases of a source, as far as they can be listed.
func listOffered(ctx context.Context, s release.Source, memory *release.Memory) ([]listed, error) {
	lister, ok := s.(release.Lister)
	if !ok {
		return nil, nil
	}
	tags, err := lister.Tags(ctx)
	var list []listed
	for _, tag := range tags {
		if tag == release.RevocationsTag {
			continue // a list of releases, and none itself
		}
		l := listed{Tag: tag, State: "not checked", Where: s.String()}
		if revoked := memory.Revoked(tag); revoked != nil {
			l.State, l.Why = "refused", revoked.String()
		}
		list = append(list, l)
	}
	return list, err
}

// look checks one release of the cache, without the order of releases: older ones are
// kept on purpose.
func look(ctx context.Context, src release.Source, tag release.Tag, v release.Verifier, opts []release.Option) listed {
	l := listed{Tag: tag, State: "trusted", Where: "kept here"}
	r, err := release.Open(ctx, src, tag, v, opts...)
	var untrusted *release.UntrustedError
	switch {
	case errors.As(err, &untrusted):
		l.State, l.Why = "refused", fmt.Sprintf("%s: %s", untrusted.Reason, untrusted.Detail)
	case err != nil:
		l.State, l.Why = "failed", err.Error()
	default:
		i := r.Info()
		l.Why, l.CreatedAt, l.BestBefore, l.Sums = r.Signer().String(), &i.CreatedAt, &i.BestBefore, r.Digest().String()
		l.Systems = terminal.SystemsOf(ctx, r)
	}
	return l
}

// releaseList is the result of release list.
type releaseList struct {
	SchemaVersion int      `json:"schemaVersion"`
	Releases      []listed `json:"releases"`
}

// Text implements [terminal.Result].
func (l *releaseList) Text(screen terminal.Screen) string {
	switch {
	case len(l.Releases) == 0:
		return "no releases\n"
	case screen.Width > 0:
		return screen.Fold(listForScreen(l.Releases))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tCREATED\tBEST BEFORE\tSTATE\tWHERE\tWHY")
	for i := range l.Releases {
		r := &l.Releases[i]
		fmt.Fprintf(w, "%s\t%s\n", r.columns(), report.Escape(r.Why))
	}
	w.Flush() // to memory, which does not fail
	w = tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	heading := "\nTAG\tCONFIGURATION\tSYSTEM\n"
	for _, r := range l.Releases {
		for _, name := range slices.Sorted(maps.Keys(r.Systems)) {
			fmt.Fprintf(w, "%s%s\t%s\t%s\n", heading, r.Tag, name, r.Systems[name])
			heading = ""
		}
	}
	w.Flush()
	return b.String()
}

// columns returns the columns that every release has.
func (l *listed) columns() string {
	state := l.State
	if l.Accepted {
		state += ", in release.accept"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", l.Tag, date(l.CreatedAt), date(l.BestBefore), state, report.Escape(l.Where))
}

// listForScreen returns a table that fits a screen: the long parts of a release, its
// signer or what is wrong, and its systems, are below its line.
func listForScreen(list []listed) string {
	var table, out strings.Builder
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tCREATED\tBEST BEFORE\tSTATE\tWHERE")
	for i := range list {
		fmt.Fprintln(w, list[i].columns())
	}
	w.Flush() // to memory, which does not fail
	i := -1
	for row := range strings.Lines(table.String()) {
		out.WriteString(row)
		if i >= 0 {
			l := &list[i]
			if l.Why != "" {
				fmt.Fprintf(&out, "  %s\n", report.Escape(l.Why))
			}
			for _, name := range slices.Sorted(maps.Keys(l.Systems)) {
				fmt.Fprintf(&out, "  %s: %s\n", name, l.Systems[name])
			}
		}
		i++
	}
	return out.String()
}

func date(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.DateOnly)
}
