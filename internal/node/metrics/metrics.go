package metrics

import (
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"every.channel/ec-verify/internal/report"
)

// gather returns every metric of s, in ascending order of names and then of the values
// of labels. A registry of Prometheus does the same, with packages for metrics of the
// process that each start of the program would wait for.
func gather(s Snapshot) []*dto.MetricFamily {
	b := &builder{}
	b.standing(s)
	b.run(s.Report)
	b.findings(s.Report)
	b.live(s.Report)
	b.release(s.Report)
	b.ledger(s.Ledger)
	families := slices.DeleteFunc(b.families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, f := range families {
		slices.SortFunc(f.Metric, func(a, b *dto.Metric) int { return slices.CompareFunc(a.Label, b.Label, compareValues) })
	}
	return families
}

func compareValues(a, b *dto.LabelPair) int { return strings.Compare(a.GetValue(), b.GetValue()) }

// builder adds metrics.
type builder struct{ families []*dto.MetricFamily }

// gauge adds the gauge name, with one series for each call of the returned function. No
// two calls have the same values.
func (b *builder) gauge(name, help string, labels ...string) (set func(value float64, values ...string)) {
	family := &dto.MetricFamily{Name: new("ec_verify_" + name), Help: new(help), Type: dto.MetricType_GAUGE.Enum()}
	b.families = append(b.families, family)
	return func(value float64, values ...string) {
		one := &dto.Metric{Gauge: &dto.Gauge{Value: new(value)}}
		for i, label := range labels {
			// The text format is UTF-8.
			one.Label = append(one.Label, &dto.LabelPair{Name: new(label), Value: new(strings.ToValidUTF8(values[i], "�"))})
		}
		slices.SortFunc(one.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		family.Metric = append(family.Metric, one)
	}
}

// time adds a gauge of times, in seconds since 1970, without the zero time.
func (b *builder) time(name, help string, labels ...string) (set func(t time.Time, values ...string)) {
	g := b.gauge(name, help, labels...)
	return func(t time.Time, values ...string) {
		if !t.IsZero() {
			g(float64(t.UnixMilli())/1000, values...)
		}
	}
}

// standing adds the machine's standing.
func (b *builder) standing(s Snapshot) {
	verdict := b.gauge("verdict", "Verdict of the standing: 1 for the current one, 0 for the others. A difference stays until a run verifies the machine.", "verdict")
	for v := report.Unsettled; v <= report.Refused; v++ {
		verdict(truth(s.Standing.Verdict == v), v.String())
	}
	b.time("verdict_since_timestamp_seconds", "Since when that is the verdict.")(s.Standing.Since)
	b.time("last_verified_timestamp_seconds", "The end of the last run that verified the machine and was not weakened; absent if none is remembered.")(s.Standing.Verified)
}

// run adds the result of the run.
func (b *builder) run(r *report.Report) {
	b.time("run_start_timestamp_seconds", "When the last run began.")(r.Started)
	b.time("run_end_timestamp_seconds", "When the last run ended, or could not be made.")(r.Finished)
	b.gauge("run_duration_seconds", "How long the last run took.")(r.Finished.Sub(r.Started).Seconds())
	b.gauge("run_read_bytes", "Bytes of file contents that the last run read from the store.")(float64(r.Coverage.Bytes))
	b.gauge("run_read_files", "Files that the last run read from the store.")(float64(r.Coverage.Files))
	b.gauge("run_weakened", "Whether the last run was weakened by an option: 1 if a part of the check was switched off.")(truth(r.Weakened()))
	done := b.gauge("tier_done", "Whether the last run did everything of the tier: 0 if it was skipped, or failed.", "tier")
	asked := b.gauge("tier_asked", "Whether the policy requests the tier.", "tier")
	took := b.gauge("tier_duration_seconds", "How long the last run spent in the tier.", "tier")
	for _, t := range r.Tiers {
		done(truth(t.Status == report.Done), string(t.Name))
		asked(truth(t.Asked), string(t.Name))
		took(t.Took.Seconds(), string(t.Name))
	}
	b.gauge("build_info", "The ec-verify and the nix that ran last.", "version", "nix")(1, r.Tool, r.Nix)
}

// findings adds the number of findings for each cause, including 0, so that series do not
// appear only with the first finding.
func (b *builder) findings(r *report.Report) {
	count := make(map[report.Cause]int)
	for i := range r.Findings {
		count[r.Findings[i].Cause]++
	}
	findings := b.gauge("findings", "Findings of the last run by their cause.", "cause", "class")
	for _, c := range report.Causes() {
		findings(float64(count[c]), string(c), string(report.ClassOf(c)))
		delete(count, c)
	}
	for c, n := range count {
		findings(float64(n), string(c), string(report.ClassOf(c)))
	}
}

// live adds the result of the live tier, if it ran.
func (b *builder) live(r *report.Report) {
	pending := b.gauge("pending_reboot", "Whether a reboot leads to another accepted release than the one that runs; absent if that was not checked.")
	if slices.ContainsFunc(r.Tiers, func(t report.Tier) bool { return t.Name == report.TierLive && t.Status == report.Done }) {
		pending(truth(slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return report.IsPending(f.Cause) })))
	}
}

// release adds the release that the machine was compared with, if it was trusted.
func (b *builder) release(r *report.Report) {
	info := b.gauge("release_info", "The release that the machine was compared with; absent if none was trusted.", "release", "configuration", "commit", "system")
	created := b.time("release_created_timestamp_seconds", "When the release was made.")
	best := b.time("release_best_before_timestamp_seconds", "Until when the release is accepted without grace; absent if it does not say.")
	refused := b.time("release_refused_after_timestamp_seconds", "When the release is refused for its age: its bestBefore and the grace.")
	key := b.time("release_key_not_after_timestamp_seconds", "Until when the signature of the release is valid; absent if that never ends.")
	if rel := r.Release; rel != nil {
		refused(rel.RefusedAfter)
		key(rel.KeyNotAfter)
		info(1, rel.Tag, r.Configuration, rel.Commit, string(rel.OutPath))
		created(rel.Created)
		best(rel.BestBefore)
	}
}

// ledger adds what all runs together verified.
func (b *builder) ledger(l *Ledger) {
	b.gauge("ledger_readable", "Whether the record of earlier runs is readable.")(truth(l != nil))
	items := b.gauge("items", "Things to check at the tier: store paths, derivations.", "tier")
	covered := b.gauge("items_covered", "Items of the tier that were checked in time.", "tier")
	overdue := b.gauge("items_overdue", "Items of the tier that were not checked in time.", "tier")
	drifted := b.gauge("items_drifted", "Items of the tier that differed from the release when they were last checked.", "tier")
	every := b.gauge("items_check_interval_seconds", "How often each item of the tier is to be checked.", "tier")
	oldest := b.time("oldest_check_timestamp_seconds", "The oldest check of an item of the tier.", "tier")
	complete := b.time("complete_pass_timestamp_seconds", "The time since which every item of the tier was checked; absent if one never was.", "tier")
	if l == nil {
		return
	}
	for _, t := range l.Tiers {
		items(float64(t.Items), t.Name)
		covered(float64(t.Covered), t.Name)
		overdue(float64(t.Overdue), t.Name)
		drifted(float64(t.Drifted), t.Name)
		every(t.Every.Seconds(), t.Name)
		oldest(t.Oldest, t.Name)
		complete(t.Complete, t.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
