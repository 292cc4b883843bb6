package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// Configured checks what a valid configuration names on this machine, for runs by the
// units. The units among [Services] define what a run sees; those that are missing are
// assumed to be as shipped. name is the configuration file.
func Configured(name string, c config.Config, units []systemd.Unit, now time.Time) []Result {
	e := &examination{config: c, file: name, now: now, verify: shipped(), fetch: shipped(), rebuild: shippedRebuild()}
	for _, u := range units {
		switch {
		case u.Absent:
		case u.Name == VerifyUnit:
			e.verify = u.Sandbox
		case u.Name == FetchUnit:
			e.fetch = u.Sandbox
		case u.Name == RebuildUnit:
			e.rebuild = u.Sandbox
		}
	}
	for _, check := range []struct {
		name string
		do   func()
	}{
		{"configuration", e.checkFiles}, {"policy", e.checkPolicy}, {"keys", e.checkKeys}, {"sources", e.checkSources},
		{"state", e.checkState}, {"metrics", e.checkMetrics}, {"report key", e.checkReportKey}, {"nix", e.checkNix}, {"machine", e.checkMachine},
	} {
		e.check = check.name
		check.do()
	}
	return e.all
}

// examination is the state of examining a machine.
type examination struct {
	results
	config config.Config
	file   string
	now    time.Time

	verify, fetch, rebuild systemd.Sandbox
}

// own adds a problem if others can change what name leads to.
func (e *examination) own(key, name string, trusted ...int) {
	var writable *hostfile.WritableError
	if err := hostfile.CheckOwn(name, trusted...); errors.As(err, &writable) {
		e.problem(key, ownRemedy(key, writable), "%s", writable)
	}
}

// ownRemedy says how to give root alone control of a file that others can write to. The
// owner of a link's target is left alone.
func ownRemedy(key string, w *hostfile.WritableError) string {
	switch target, err := os.Stat(w.Link); {
	case w.Link != "" && err == nil && target.Mode().IsRegular() && key != "nix.binDir": // a copied program may not find its own
		return "cp --remove-destination " + quoted(readlink(w.Link)) + " " + quoted(w.Link)
	case w.Link != "":
		return "have " + quoted(w.Link) + " lead to places that only root can write"
	case w.Owner >= 0:
		return "chown -h root " + quoted(w.Path) // also of a link: itself
	}
	return "chmod go-w " + quoted(w.Path)
}

// readlink returns the file to which a link leads in the end.
func readlink(name string) string {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		return target
	}
	return name
}

// quoted quotes a path for a shell.
func quoted(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=", r)
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func (e *examination) checkFiles() {
	if _, err := os.Lstat(e.file); errors.Is(err, fs.ErrNotExist) {
		e.notice("", "write "+e.file, "%s does not exist: the defaults apply", e.file)
	}
	e.own("", e.file)
	if dir := config.DropInDir(e.file); dir != "" {
		e.own("", dir)
		drops, _ := config.DropIns(e.file) // which could be read a moment ago
		for _, drop := range drops {
			e.own("", drop)
		}
	}
	if setting := hides(e.verify, e.file); setting != "" && e.file == config.DefaultFile {
		e.problem("", "move what "+e.file+" leads to, into /etc", "%s leads to a place that %s does not see (%s)", e.file, VerifyUnit, setting)
	}
	if e.config.StoreRoot != "" && e.config.StoreRoot != "/" {
		e.notice("storeRoot", "remove storeRoot from the configuration, and give --store-root by hand", "the units verify the disk at %s, and not this machine", e.config.StoreRoot)
	}
	if e.quiet() {
		e.ok("%s is valid", e.file)
	}
}

func (e *examination) checkPolicy() {
	if len(e.config.Release.Accept) == 0 {
		e.problem("release.accept", `list the tags that this machine may run: "release": { "accept": ["TAG"] }`, "no release is accepted, so there is nothing to compare with")
	}
	if len(e.config.Release.Source) == 0 {
		e.problem("release.source", `name the source of releases: "release": { "source": ["/srv/releases"] }`, "there is no source of releases")
	}
	if n := len(e.config.UnsafeSkip); n > 0 {
		e.notice("unsafeSkip", "remove unsafeSkip", "the configuration leaves out tiers: %v", e.config.UnsafeSkip)
	}
	if e.config.UnsafeAllowRollback {
		e.notice("unsafeAllowRollback", "remove unsafeAllowRollback", "the configuration accepts releases that are older than one accepted before")
	}
	if e.quiet() {
		e.ok("accepts %s", strings.Join(e.config.Release.Accept, ", "))
	}
}

// seen adds a problem if a unit does not see the file name, and reports whether it does.
func (e *examination) seen(unit string, s systemd.Sandbox, key, name string) bool {
	setting := hides(s, name)
	if setting == "" {
		return true
	}
	e.problem(key, "move it to a place that the unit sees, for instance /etc/ec-verify or /srv", "%s does not see %s (%s)", unit, name, setting)
	return false
}

func (e *examination) checkKeys() {
	p := e.config.Trust
	switch {
	case e.config.UnsafeUnsigned:
		e.notice("unsafeUnsigned", "remove unsafeUnsigned, and name a key under trust.keys", "releases are accepted without checking their signatures")
		return
	case len(p.Keys)+len(p.Identities) == 0:
		e.problem("trust.keys", `name the publisher's key: "trust": { "keys": [{ "name": "ci", "file": "/etc/ec-verify/cosign.pub" }] }`, "no key and no identity is trusted, so no release can be verified")
		return
	}
	usable := 0
	for i, k := range p.Keys {
		if e.checkKey(fmt.Sprintf("trust.keys[%d]", i), k) {
			usable++
		}
	}
	for i, id := range p.Identities {
		key := fmt.Sprintf("trust.identities[%d]", i)
		e.own(key+".trustedRoot", id.TrustedRoot)
		e.seen(VerifyUnit, e.verify, key+".trustedRoot", id.TrustedRoot)
		if _, err := trust.New(trust.Policy{Identities: []trust.Identity{id}}); err != nil {
			e.problem(key, "put sigstore's trusted_root.json there", "%s", bare(err))
			continue
		}
		usable++
	}
	if need := max(1, p.Threshold); usable < need && e.harmless() {
		e.problem("trust.keys", "add the publisher's current key under trust.keys", "%d of the %d signers that are needed can sign today", usable, need)
	}
	// Duplicate keys only show together.
	if _, err := trust.New(p); err != nil && e.quiet() {
		e.problem("trust.keys", "remove one of them", "%s", bare(err))
	}
	if e.quiet() {
		e.ok("%d usable", usable)
	}
}

// bare returns the text of an error of package trust without the key before it.
func bare(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "]: "); ok && strings.HasPrefix(text, "trust.") {
		return rest
	}
	return text
}

// checkKey reports whether a key is usable now.
func (e *examination) checkKey(key string, k trust.Key) bool {
	if k.File != "" {
		e.own(key+".file", k.File)
		if !e.seen(VerifyUnit, e.verify, key+".file", k.File) {
			return false
		}
	}
	_, err := trust.New(trust.Policy{Keys: []trust.Key{k}})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.problem(key+".file", "copy the publisher's public key to "+k.File, "key %q: there is no %s", k.Name, k.File)
		return false
	case err != nil:
		e.problem(key, "put the publisher's public key there, in PEM", "%s", bare(err))
		return false
	}
	switch {
	case !k.NotBefore.IsZero() && e.now.Before(k.NotBefore):
		e.notice(key+".notBefore", "wait, or correct the clock or notBefore", "key %q is not valid before %s", k.Name, k.NotBefore.Format(time.RFC3339))
		return false
	case !k.NotAfter.IsZero() && !e.now.Before(k.NotAfter):
		e.notice(key+".notAfter", "remove this key, and add the one that follows it", "key %q is not valid since %s", k.Name, k.NotAfter.Format(time.RFC3339))
		return false
	case !k.NotAfter.IsZero() && k.NotAfter.Sub(e.now) < time.Duration(e.config.Release.NoticeBefore):
		e.notice(key+".notAfter", "add the key that follows it", "key %q is valid until %s", k.Name, k.NotAfter.Format(time.RFC3339))
	}
	return true
}

func (e *examination) checkSources() {
	for i, spec := range e.config.Release.Source {
		source, err := release.NewSource(spec)
		if err != nil {
			continue // which the configuration's own check says
		}
		dir, ok := source.(*release.DirSource)
		if !ok {
			continue
		}
		key, name := fmt.Sprintf("release.source[%d]", i), dir.Dir()
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			e.problem(key, "mkdir -p "+quoted(name)+", and put the releases there, each in a directory with its tag's name", "there is no directory %s", name)
			continue
		case err != nil:
			e.problem(key, "make it readable for root", "%s", err)
			continue
		case !info.IsDir():
			e.problem(key, "name the directory of the releases", "%s is not a directory", name)
			continue
		}
		// What the fetch sees is in the cache when the verification starts.
		if hides(e.fetch, name) != "" {
			e.seen(VerifyUnit, e.verify, key, name)
		}
	}
	if token := e.config.Release.TokenFile; token != "" {
		e.secret("release.tokenFile", token, FetchUnit, e.fetch)
	}
	if e.quiet() && len(e.config.Release.Source) > 0 {
		e.ok("%s", strings.Join(sourceNames(e.config.Release.Source), ", "))
	}
}

// sourceNames names the sources without secrets.
func sourceNames(specs []string) []string {
	var names []string
	for _, spec := range specs {
		if source, err := release.NewSource(spec); err == nil {
			names = append(names, source.String())
		}
	}
	return names
}

// secret checks a file that only root may read.
func (e *examination) secret(key, name, unit string, s systemd.Sandbox) {
	e.own(key, name)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.problem(key, "write it, readable for root alone", "there is no %s", name)
		return
	case err != nil:
		e.problem(key, "make it readable for root", "%s", err)
		return
	case info.Mode().Perm()&0o044 != 0:
		e.problem(key, "chmod 600 "+quoted(name), "others can read %s (mode %04o)", name, info.Mode().Perm())
	}
	e.seen(unit, s, key, name)
}

// writable adds a problem for each verifying unit that may not write to dir.
func (e *examination) writable(key, dir string) {
	e.writableBy(VerifyUnit, e.verify, key, dir)
	if slices.Contains(Services(e.config), RebuildUnit) {
		e.writableBy(RebuildUnit, e.rebuild, key, dir)
	}
}

func (e *examination) writableBy(unit string, s systemd.Sandbox, key, dir string) {
	if !e.seen(unit, s, key, dir) {
		return
	}
	if reason, ok := writes(s, dir); !ok {
		e.problem(key, fmt.Sprintf("systemctl edit %s: [Service] ReadWritePaths=%s", unit, dir), "%s may not write to %s (%s)", unit, dir, reason)
	}
}

func (e *examination) checkState() {
	dir := e.config.StateDir
	var owner []int
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		e.problem("stateDir", "name a directory", "%s is not a directory", dir)
		return
	case errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(dir, "/var/lib/ec-verify"):
		e.problem("stateDir", "mkdir -p "+quoted(dir), "there is no %s, and the units do not make it", dir)
	case err == nil:
		// It may belong to another user's service, which runs as that user.
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = append(owner, int(st.Uid))
		}
	}
	e.own("stateDir", dir, owner...)
	e.writable("stateDir", dir)
	e.writableBy(FetchUnit, e.fetch, "stateDir", dir)
	if reports := e.config.ReportDir(); !below(reports, dir) {
		e.writable("report.dir", reports)
	}
	if e.quiet() {
		e.ok("%s", dir)
	}
}

func (e *examination) checkMetrics() {
	file := e.config.Metrics.File
	if file == "" {
		return
	}
	dir := filepath.Dir(file)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		e.problem("metrics.file", "mkdir -p "+quoted(dir), "there is no directory %s", dir)
	}
	e.writable("metrics.file", dir)
	if e.quiet() {
		e.ok("%s", file)
	}
}

func (e *examination) checkReportKey() {
	name := e.config.Report.KeyFile
	if name == "" {
		return
	}
	e.secret("report.keyFile", name, VerifyUnit, e.verify)
	if !e.quiet() {
		return
	}
	pem, err := hostfile.ReadSmall(name, 64<<10)
	if err == nil {
		_, err = trust.ParsePrivateKey(pem, nil)
	}
	switch {
	case errors.Is(err, trust.ErrPassword):
		e.problem("report.keyFile", "give it as a credential that systemd decrypts: systemd-creds encrypt", "%s is encrypted, and a unit has no password", name)
	case err != nil:
		e.problem("report.keyFile", "put a private key there, in PEM", "%s: %s", name, err)
	default:
		e.ok("%s", name)
	}
}

// checkMachine checks that the verifying units may check the parts of the machine that the
// policy requests. A run by hand has every right of root.
func (e *examination) checkMachine() {
	parts := e.config.Machine.Parts
	skipped := slices.Contains(e.config.UnsafeSkip, "machine")
	if len(parts) == 0 || skipped || e.config.StoreRoot != "" && e.config.StoreRoot != "/" {
		return
	}
	e.checkable(VerifyUnit, e.verify, parts)
	if slices.Contains(Services(e.config), RebuildUnit) {
		e.checkable(RebuildUnit, e.rebuild, parts)
	}
	if e.quiet() {
		e.ok("the units may check %s", strings.Join(parts, ", "))
	}
}

// checkable adds a problem if a unit has not all rights to check the parts.
func (e *examination) checkable(unit string, s systemd.Sandbox, parts []string) {
	var unchecked, lacks []string
	for _, part := range parts {
		missing := slices.DeleteFunc(running.Needs(part), func(setting string) bool { return grants(s, setting) })
		if len(missing) == 0 {
			continue
		}
		unchecked = append(unchecked, part)
		for _, setting := range missing {
			if !slices.Contains(lacks, setting) {
				lacks = append(lacks, setting)
			}
		}
	}
	if len(lacks) > 0 {
		e.problem("machine.parts", grantRemedy(unit, lacks), "%s can't check %s: it lacks %s", unit, strings.Join(unchecked, ", "), strings.Join(lacks, ", "))
	}
}

// grantRemedy returns the command that gives a unit more settings.
func grantRemedy(unit string, lacks []string) string {
	var b strings.Builder
	b.WriteString("{ echo '[Service]'")
	for _, setting := range lacks {
		b.WriteString("; echo " + quoted(setting))
	}
	return b.String() + "; } | systemctl edit --stdin --drop-in=machine " + unit
}

func (e *examination) checkNix() {
	dir := e.config.Nix.BinDir
	if dir == "" {
		return
	}
	e.own("nix.binDir", dir)
	e.seen(VerifyUnit, e.verify, "nix.binDir", dir)
	for _, program := range config.NixPrograms {
		name := filepath.Join(dir, program)
		e.own("nix.binDir", name)
		if info, err := os.Stat(name); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			e.problem("nix.binDir", "name the directory of the nix programs, or remove nix.binDir", "there is no program %s", name)
			return
		}
	}
	if e.quiet() {
		e.ok("%s", dir)
	}
}
