package report

import (
	"maps"
	"slices"

	"every.channel/ec-verify/pkg/closure"
)

// Cause is the cause of a finding; see [closure.Cause] for those that the comparison of a
// closure gives.
type Cause = closure.Cause

// The causes outside the comparison of store paths. Like all causes they are stable.
const (
	// ReleaseUntrusted: the release was found, and is refused.
	ReleaseUntrusted Cause = "release-untrusted"
	// ReleaseExpired, ReleaseRolledBack, ReleaseNotAccepted and ReleaseKeyEnded: the
	// signature is valid, but the release is too old, older than one accepted before, not
	// in the policy's list, or signed by a key outside its period.
	ReleaseExpired     Cause = "release-expired"
	ReleaseRolledBack  Cause = "release-rolled-back"
	ReleaseNotAccepted Cause = "release-not-accepted"
	ReleaseKeyEnded    Cause = "release-key-ended"
	// ReleaseExpires and KeyExpires: the release, or the key that signed it, expires
	// soon.
	ReleaseExpires Cause = "release-expires"
	KeyExpires     Cause = "release-key-expires"
	// ReleaseRevoked: the publisher revoked the release that the machine runs, booted or
	// boots next, or the only one that it may run.
	ReleaseRevoked Cause = "release-revoked"
	// AcceptedRevoked: another release that the policy accepts is revoked.
	AcceptedRevoked Cause = "accepted-revoked"
	// RevocationsRefused: a list of revoked releases is not trusted, is older than one
	// seen before, or has disappeared. Earlier revocations stay in force.
	RevocationsRefused Cause = "revocations-refused"
	// RevocationsStale: no source was asked for revoked releases for longer than
	// release.grace, or none answered.
	RevocationsStale Cause = "revocations-stale"
	// ReleaseUnavailable: no release, or only a part of it, is available.
	ReleaseUnavailable Cause = "release-unavailable"
	// ForeignMount: a mount over the store, the database, the profiles, /run or what
	// programs look into is not in the release's configuration, or one service alone has
	// it.
	ForeignMount Cause = "foreign-mount"
	// TimeAltered: a file of a store path has a modification time that Nix never sets.
	TimeAltered Cause = "time-altered"
	// AttributesAltered: a file of a store path has extended attributes that Nix removes.
	// Attributes that grant rights are PermissionsAltered.
	AttributesAltered Cause = "attributes-altered"
	// AcceptedUnavailable: another release that the policy accepts could not be opened;
	// this run did not need it.
	AcceptedUnavailable Cause = "accepted-unavailable"
	// ReleaseNote: something about the accepted release that an operator should know,
	// such as that it is past its date and within the grace period.
	ReleaseNote Cause = "release-note"
	// ClockWrong: this machine's clock is certainly wrong, so that no release's age is
	// known.
	ClockWrong Cause = "clock-wrong"
	// SourceAltered: the embedded flake differs from the release's.
	SourceAltered Cause = "source-altered"
	// SourceMissing: there is no embedded flake.
	SourceMissing Cause = "source-missing"
	// LockAltered: the embedded flake's lock file is not the release's.
	LockAltered Cause = "lock-altered"
	// EvaluationDrift: the embedded flake evaluates to another derivation or path than
	// the release's.
	EvaluationDrift Cause = "evaluation-drift"
	// EvaluationFailed: the embedded flake could not be evaluated.
	EvaluationFailed Cause = "evaluation-failed"
	// OtherSystem: the running system is not the release's, or a candidate is that of no
	// accepted release.
	OtherSystem Cause = "other-system"
	// OtherRelease: the machine runs another release than the requested one, and was
	// compared with the one that it runs.
	OtherRelease Cause = "other-release"
	// OtherBoot: the booted system belongs to no accepted release.
	OtherBoot Cause = "other-boot"
	// OtherProfile: the system profile leads to a system that belongs to no accepted
	// release.
	OtherProfile Cause = "other-profile"
	// PendingReboot: the machine booted, or will boot, another accepted release than the
	// one that runs, and what the next boot starts is, byte for byte, an accepted
	// release. A notice.
	PendingReboot Cause = "pending-reboot"
	// PendingUnchecked: the same, but what the next boot starts was not checked, or only
	// in part.
	PendingUnchecked Cause = "pending-unchecked"
	// PendingAltered: the same, but the place by which the next boot goes leads to a
	// system that differs from its release.
	PendingAltered Cause = "pending-altered"
	// BootedAltered: the machine was booted from a system of another accepted release,
	// which differs from it now.
	BootedAltered Cause = "booted-altered"
	// OtherEntry: the boot loader starts by default a system that belongs to no accepted
	// release, or offers something that is not a system of this machine.
	OtherEntry Cause = "other-entry"
	// CommandLineAltered: the kernel that runs was started with other parameters than the
	// system has that it booted.
	CommandLineAltered Cause = "command-line-altered"
	// BootAltered: a kernel, initrd, device tree or command line of a boot entry differs
	// from that of the system which the entry claims to boot.
	BootAltered Cause = "boot-altered"
	// BootUnchecked: the same could not be checked.
	BootUnchecked Cause = "boot-unchecked"
	// LoaderUnknown: a boot loader, or a part of one, is not that of any accepted release.
	LoaderUnknown Cause = "loader-unknown"
	// UnacceptedEntry: the boot menu offers a system that belongs to no accepted release,
	// such as an older generation. A notice, unless the policy makes it drift.
	UnacceptedEntry Cause = "unaccepted-entry"
	// LiveUnknown: it is unknown what the machine runs, booted or boots next.
	LiveUnknown Cause = "live-unknown"
	// ProcUnavailable: the kernel's /proc is not mounted, which shows mounts, access
	// control lists and the kernel's command line.
	ProcUnavailable Cause = "proc-unavailable"
	// PermissionsAltered: a file of the closure has another mode than Nix sets, has file
	// capabilities or an access control list, or belongs to neither root nor the store's
	// owner. A NAR hash does not cover these. Or the store, or a directory above it, lets
	// others replace its contents, or locks Nix's build users out.
	PermissionsAltered Cause = "permissions-altered"
	// MountedOver: a mount covers part of the closure, so that what is seen there is not
	// what the store has.
	MountedOver Cause = "mounted-over"
	// SourceUnreadable: the embedded flake could not be read.
	SourceUnreadable Cause = "source-unreadable"
	// Unreadable: bytes could not be read, so they are unknown.
	Unreadable Cause = "unreadable"
	// ChangedWhileRead: a path changed while it was hashed.
	ChangedWhileRead Cause = "changed-while-read"
	// ReadFromCache: bytes were to be read from the disk, and only the page cache was
	// available.
	ReadFromCache Cause = "read-from-cache"
	// DatabaseUnreadable: the Nix database could not be read.
	DatabaseUnreadable Cause = "database-unreadable"
	// DeriverDiffers: the database claims another deriver than the release. Several
	// derivations may have the same output, so it is a notice.
	DeriverDiffers Cause = "deriver-differs"
	// NotRemembered: the result could not be written to the ledger.
	NotRemembered Cause = "not-remembered"
	// TempUnusable: the temporary directory is full or read-only, so that the Nix
	// database, which is copied there, could not be read.
	TempUnusable Cause = "temp-unusable"
	// RunDied: the previous run ended without a verdict.
	RunDied Cause = "run-died"
	// LedgerDamaged: the ledger was damaged and set aside, so that the results of earlier
	// runs are lost.
	LedgerDamaged Cause = "ledger-damaged"
	// StandingLost: the machine's standing, the only record of what earlier runs found,
	// is unreadable.
	StandingLost Cause = "standing-lost"
	// CheckSkipped: the operator left a check out.
	CheckSkipped Cause = "check-skipped"
	// Interrupted: the run ended early.
	Interrupted Cause = "interrupted"
	// UnreproducibleListed: a rebuild differs, and the release lists the output as
	// unreproducible. A notice.
	UnreproducibleListed Cause = "unreproducible-listed"
	// ReproducesThoughListed: a rebuild reproduces outputs that the release lists as
	// unreproducible.
	ReproducesThoughListed Cause = "reproduces-though-listed"
	// BuildFailed: a builder fails that once succeeded.
	BuildFailed Cause = "build-failed"
	// BuildTimedOut: a build exceeds its time limit.
	BuildTimedOut Cause = "build-timed-out"
	// InputBad: an input of a build differs from what it should be.
	InputBad Cause = "build-input-bad"
	// InputMissing: an input of a build is not on this machine.
	InputMissing Cause = "build-input-missing"
	// InputClaimed: only this machine's Nix database says what a build input should be.
	InputClaimed Cause = "build-input-claimed"
	// NotRebuilt: a derivation could not be rebuilt, for the reason of another finding.
	NotRebuilt Cause = "not-rebuilt"
	// RebuildNoRoom: a rebuild exceeds its limit of disk space.
	RebuildNoRoom Cause = "rebuild-no-room"
	// RebuildUnavailable: no rebuild, or not this one, is possible on this machine.
	RebuildUnavailable Cause = "rebuild-unavailable"
	// DerivationDiffers: a derivation of the embedded flake differs from the release's by
	// itself, and not only in its inputs.
	DerivationDiffers Cause = "derivation-differs"
	// PressureUnknown: the load of other programs is unknown, so the run did not pause
	// for them.
	PressureUnknown Cause = "pressure-unknown"
	// PressureLasting: other programs waited for longer than the run may pause.
	PressureLasting Cause = "pressure-lasting"
	// CoverageOverdue: the time for hashing ran out, and some store paths were not hashed
	// by any run within the time that the policy allows.
	CoverageOverdue Cause = "coverage-overdue"
	// InputFetched: build inputs were missing and were fetched from a substituter.
	InputFetched Cause = "build-input-fetched"
	// NotSigned: the report should be signed and is not; or earlier reports of this
	// machine are signed and this one is not.
	NotSigned Cause = "not-signed"
	// ForeignReport: one of the signed reports is damaged or not this machine's.
	ForeignReport Cause = "foreign-report"
	// ChoseNothing: the policy's choice of rebuilds selects nothing.
	ChoseNothing Cause = "rebuild-chose-nothing"
	// NoneChosen: a run for rebuilds found no choice in the policy.
	NoneChosen Cause = "rebuild-not-asked"
	// PatternUnmatched: a pattern of the policy matches nothing, while others do.
	PatternUnmatched Cause = "pattern-unmatched"
	// BudgetSpent: the time for rebuilds ran out before all were done.
	BudgetSpent Cause = "budget-spent"
	// EtcAltered: an entry of /etc differs from the accepted system's.
	EtcAltered Cause = "etc-altered"
	// FileUnknown: a file is in a place where programs look for something to run, and the
	// accepted system does not put it there.
	FileUnknown Cause = "file-unknown"
	// AccountAltered: somebody can log in or become root who may not on the accepted
	// system.
	AccountAltered Cause = "account-altered"
	// UnitUnknown: a unit, a part of one, or a generator is in effect, or is where the
	// service manager looks for it, and does not belong to the accepted system.
	UnitUnknown Cause = "unit-unknown"
	// UnitAltered: the service manager runs a unit otherwise than its files say, or has
	// an environment for all units that loads something.
	UnitAltered Cause = "unit-altered"
	// FirewallAltered: the kernel's rules for packets are others than those of the
	// configuration.
	FirewallAltered Cause = "firewall-altered"
	// UnitStale: the service manager runs a unit as its file was before it changed.
	UnitStale Cause = "unit-stale"
	// CodeUnknown: running code is not from a file of the accepted system, or a BPF
	// program is of no service of it.
	CodeUnknown Cause = "code-unknown"
	// SettingAltered: a setting of the kernel has another value than the accepted system
	// gives it.
	SettingAltered Cause = "setting-altered"
	// SocketUnknown: a process listens on the network that is not a program of the
	// accepted system in one of its services.
	SocketUnknown Cause = "socket-unknown"
	// WrittenUnknown: the root file system has a file, written since the boot, that NixOS
	// does not write.
	WrittenUnknown Cause = "written-unknown"
	// PathUnregistered: a store path is not registered in Nix's database.
	PathUnregistered Cause = "path-unregistered"
	// LinkedOutside: a file of the store has another name outside of it.
	LinkedOutside Cause = "linked-outside"
	// MachineUnseen: a part of the running machine could not be checked.
	MachineUnseen Cause = "machine-unseen"
	// SourceElsewhere: the candidate has no flake that could be checked.
	SourceElsewhere Cause = "source-elsewhere"
	// CandidateAbsent: the candidate is not on this machine and never was.
	CandidateAbsent Cause = "candidate-absent"
	// MachineElsewhere: a mounted disk is examined, so there is no running machine to
	// check.
	MachineElsewhere Cause = "machine-elsewhere"
	// ExceptionUsed, ExceptionUnused, ExceptionOver: an exception of the policy allowed
	// differences, matched nothing, or has ended.
	ExceptionUsed   Cause = "exception-used"
	ExceptionUnused Cause = "exception-unused"
	ExceptionOver   Cause = "exception-over"
)

// IsPending reports whether c means that a reboot is pending, whatever it starts.
func IsPending(c Cause) bool {
	return c == PendingReboot || c == PendingUnchecked || c == PendingAltered || c == BootedAltered
}

// Advice says what to do about f; "" if what explains it says so. Whether to reboot is
// said in any case.
func (f *Finding) Advice() string {
	if f.ConsequenceOf != "" && !IsPending(f.Cause) {
		return ""
	}
	if f.Cause == OtherSystem && f.Tier == TierRelease { // of a candidate
		return "Do not switch to it. If it is wanted, list its release in release.accept."
	}
	return Next(f.Cause)
}

// Class is the effect of a cause on the verdict. The zero value is no class.
type Class string

// The classes, gravest first.
const (
	Untrusted    Class = "untrusted"    // the release cannot be believed
	Drift        Class = "drift"        // the machine is not the release
	Inconclusive Class = "inconclusive" // something asked for could not be checked
	Notice       Class = "notice"       // worth knowing, and no alarm
)

// cause describes one Cause for people.
type cause struct {
	class Class
	title string // heads the group of findings in the text report
	next  string // what to do about it
}

const (
	nextCompare  = "Keep the disk as evidence; reinstall the release from a trusted medium, and find out who could write to the store."
	nextExplain  = nextCompare + " ec-verify explain PATH shows what differs."
	nextRestore  = "If this was not intended, switch the machine back to the release; otherwise verify it against the release that it runs."
	nextSource   = "Restore the embedded flake by reinstalling the release; an altered flake may evaluate to anything."
	nextReadDisk = "Check the disk (dmesg, smartctl) and run again; until then nothing is known about these bytes."
)

var causes = map[Cause]cause{
	ReleaseUntrusted:               {Untrusted, "the release is not trusted", "If the detail names no other remedy, get the release again from its publisher; if it is refused again, treat the source as compromised."},
	ReleaseExpired:                 {Untrusted, "the release has expired", "Publish a newer release and switch this machine to it, or set the clock if it is wrong. An old release is no sign of a compromised source, unless you know that newer ones exist: then find out why this machine does not get them."},
	ReleaseRolledBack:              {Untrusted, "the release is older than one that this machine has accepted", "If the older release is intended, name it in release.accept; otherwise find out why the source offers an older release than before."},
	ReleaseNotAccepted:             {Untrusted, "the release is not one that the policy accepts", "Name the tag in release.accept if this machine may run it, or compare with a tag that is listed there. A tag that is good but not in release.accept is no sign of a compromised source."},
	ReleaseKeyEnded:                {Untrusted, "the key that signed the release is outside its validity period", "Fetch the release again if it has a new signature, or add the publisher's next key to trust.keys (ec-verify.json(5)); set the clock if it is wrong."},
	ReleaseExpires:                 {Notice, "the release expires soon", "Publish a newer release and switch this machine to it before that time; after it, the verdict is untrusted."},
	KeyExpires:                     {Notice, "the key that signed the release ends soon", "Before that time, add the publisher's next key to trust.keys (ec-verify.json(5)), and have the release signed again with it; afterwards the verdict is untrusted."},
	ReleaseRevoked:                 {Drift, "the release is revoked by its publisher", "Switch the machine to a release that is not revoked, and follow the publisher's reason; you may also have to find out what the revoked release did."},
	AcceptedRevoked:                {Notice, "another accepted release is revoked by its publisher", "Remove it from release.accept; this machine refuses it in any case."},
	RevocationsRefused:             {Inconclusive, "a list of revoked releases was refused", "See the detail. Known revocations stay in force, but there may be others: find out what the source offers and why, then fetch again (ec-verify release refresh)."},
	RevocationsStale:               {Notice, "the list of revoked releases is out of date", "Find out why this machine does not reach its sources (ec-verify doctor), and fetch: ec-verify release refresh."},
	ReleaseUnavailable:             {Inconclusive, "the release is unavailable", "See the detail: make the release available (ec-verify release fetch, or --release DIR), or choose a configuration that it has (--configuration), and run again."},
	closure.CoverUp:                {Drift, "disk altered and the database made to match", nextExplain},
	closure.ReplacedUnexplained:    {Drift, "disk and database agree, but not with the release", nextExplain + " A rebuild tells tampering from another build."},
	closure.DiskAndDatabaseAltered: {Drift, "disk, database and release all differ", nextExplain},
	closure.DiskAltered:            {Drift, "the files on disk differ from the release", nextExplain},
	closure.DatabaseAltered:        {Drift, "the Nix database disagrees with the release", "Find out who could write to the Nix database; reload its registration from the release."},
	closure.Unregistered:           {Drift, "on disk, but unknown to the Nix database", "Reload the registration from the release before garbage is collected."},
	closure.OtherBuild:             {Drift, "this machine consistently builds something else", "Compare its source, toolchain and release with the publisher's."},
	closure.UnreproducibleBuild:    {Drift, "a rebuild gives different bytes", "Ask the publisher to examine the derivation; it can be listed as unreproducible if that is known."},
	closure.Missing:                {Drift, "missing from the store", "Find out what removed it, and reinstall the release, or have Nix bring it back: nix-store --verify --check-contents --repair."},
	closure.Extra:                  {Drift, "in the system's closure, but not in the release", "Find out what added the reference to it: the Nix database, or the running system."},
	PermissionsAltered:             {Drift, "permissions that Nix never sets", nextCompare},
	ProcUnavailable:                {Inconclusive, "there is no /proc", "Mount it (mount -t proc proc /proc), and run again."},
	MountedOver:                    {Inconclusive, "a mount hides files that were to be checked", "Find out who mounted it (findmnt), unmount it and run again; until then nothing is known about the files beneath."},
	ForeignMount:                   {Drift, "a mount that the release's configuration does not make", "Find out who mounted it (findmnt) and what is beneath it: the machine boots from that. Unmount it, or reboot, and run again."},
	TimeAltered:                    {Notice, "times that Nix never sets", "Nothing to do if a tool that makes images set them; otherwise find out who wrote to the store, and restore the files."},
	AttributesAltered:              {Notice, "extended attributes that Nix never leaves", "Nothing to do if the file system or a tool that makes images sets them; otherwise find out who wrote to the store."},
	AcceptedUnavailable:            {Notice, "another accepted release could not be opened", "Nothing to do now: this run did not need it."},
	ReleaseNote:                    {Notice, "about the release", "Publish or fetch a newer release."},
	ClockWrong:                     {Inconclusive, "the clock cannot be right", "Set the clock (is the time service running?) and run again."},
	SourceAltered:                  {Drift, "the embedded flake differs from the release's", nextSource},
	SourceMissing:                  {Drift, "the embedded flake is missing", nextSource},
	LockAltered:                    {Drift, "the embedded lock file differs from the release's", nextSource},
	EvaluationDrift:                {Drift, "the embedded flake evaluates to another system", "Check the findings of the source first; if there are none, compare the nix versions."},
	EvaluationFailed:               {Inconclusive, "the embedded flake could not be evaluated", "Read nix's message; all inputs of the flake must be in the store."},
	OtherSystem:                    {Drift, "the system is not the release's", nextRestore},
	OtherRelease:                   {Drift, "the machine runs another release", "If the update was intended, add the release to release.accept; otherwise switch the machine back to an accepted one."},
	OtherBoot:                      {Drift, "the booted system belongs to no accepted release", nextRestore},
	OtherProfile:                   {Drift, "the system profile leads to a system that belongs to no accepted release", nextRestore},
	PendingReboot:                  {Notice, "a reboot is pending", "Reboot when it suits: the next boot leads to an accepted release, and none of its files has changed since it was hashed."},
	PendingUnchecked:               {Inconclusive, "a reboot is pending, and the booted or the next system was not checked completely", "Do not reboot before a run has checked it: see what could not be checked, repair that, and run again."},
	PendingAltered:                 {Drift, "the system profile or the boot menu leads to an altered system", "Do not reboot: first lead both to a release that verifies (ec-verify switch), or repair this one (nix-store --verify --check-contents --repair) and run again."},
	BootedAltered:                  {Drift, "the machine was booted from an accepted release that is altered now", "Keep the disk as evidence: the system may already have been altered when it was booted. Reboot into a release that verifies."},
	CommandLineAltered:             {Drift, "the running kernel was started with other parameters than its system has", "Find out who changed them: an entry of the boot menu, somebody at the console, or the server that the machine boots from. Correct it there and reboot."},
	OtherEntry:                     {Drift, "a boot entry starts a system that belongs to no accepted release", "Find out who wrote the entry; write the boot loader's configuration anew from a release that verifies (switch-to-configuration boot)."},
	BootAltered:                    {Drift, "the boot files differ from those of the system that the entry names", "Keep the boot partition as evidence; remove its kernels and write it anew from a release that verifies, and find out who could write to it."},
	BootUnchecked:                  {Inconclusive, "some boot files could not be checked", "See the detail; until it is repaired, nothing is known about these bytes."},
	LoaderUnknown:                  {Notice, "the boot loader belongs to no accepted release", "Compare it with its installer's version: it starts before everything that is checked. Signed or older loaders are as unknown as any other."},
	UnacceptedEntry:                {Notice, "the boot menu offers a system that belongs to no accepted release", "Nothing to do if older generations are kept on purpose; otherwise delete them (nix-env --delete-generations) and write the menu again."},
	LiveUnknown:                    {Inconclusive, "the system that runs, was booted or boots next could not be determined", "See the path and the detail: repair a link or an entry that leads nowhere. Run on the booted NixOS machine itself, or check the disk from outside with --store-root."},
	SourceUnreadable:               {Inconclusive, "the embedded flake could not be read", nextReadDisk},
	Unreadable:                     {Inconclusive, "could not be read", nextReadDisk},
	ChangedWhileRead:               {Inconclusive, "changed while it was read", "Find out what writes to the store, and run again."},
	ReadFromCache:                  {Inconclusive, "could only be read from the page cache", "Run with --read disk on a file system that can bypass its cache, or right after a boot."},
	DatabaseUnreadable:             {Inconclusive, "the Nix database could not be read", "Check /nix/var/nix/db; run as root."},
	DeriverDiffers:                 {Notice, "the database names another deriver", "Nothing to do: several derivations may have the same output."},
	NotRemembered:                  {Notice, "this run could not be recorded in full", "Run as root, and check that the state directory is writable and its disk is not full; the verdict does not depend on it."},
	TempUnusable:                   {Inconclusive, "the temporary directory is full or not writable", "Free space in it, or name another one with TMPDIR; the Nix database, which is copied there, was not read."},
	RunDied:                        {Notice, "the previous run died: it crashed or was killed, and gave no verdict", "See the journal for the reason, for example the kernel was out of memory; this run's verdict does not depend on it."},
	LedgerDamaged:                  {Notice, "the results of earlier runs are lost: the ledger was damaged", "Find out what damages the disk; everything counts as never verified until it is verified again."},
	StandingLost:                   {Inconclusive, "the findings of earlier runs are lost", "Find out what damages the disk, then verify everything that the policy requests, including rebuilds."},
	CheckSkipped:                   {Notice, "skipped on request", "Run without it (--unsafe-skip, or unsafeSkip in the configuration) for a complete answer. After a boot that ec-verify-boot.service judged, the run that ec-verify.timer starts gives it."},
	Interrupted:                    {Inconclusive, "stopped before its end", "Run again."},
	UnreproducibleListed:           {Notice, "a rebuild gives different bytes, as the release says it would", "Nothing to do here; the publisher should make it reproducible."},
	ReproducesThoughListed:         {Notice, "listed as unreproducible, but a rebuild gave the same bytes", "Tell the publisher, who can shorten the list if this continues."},
	BuildFailed:                    {Inconclusive, "the builder fails on this machine", "Read the end of its log; a build that depends on the machine cannot be checked by rebuilding it."},
	BuildTimedOut:                  {Inconclusive, "the build takes too long", "Give it more time (rebuild.buildTimeout) or run when the machine is less busy."},
	InputBad:                       {Drift, "a build input differs from the release", nextCompare},
	InputMissing:                   {Inconclusive, "not checkable here: a build input is missing", "Check it on a machine that has the input, such as a builder, or let Nix fetch it (rebuild.substitute)."},
	InputClaimed:                   {Notice, "build inputs are known from the Nix database alone", "Nothing to do: the result equals the release, so the inputs were good enough."},
	NotRebuilt:                     {Inconclusive, "could not be rebuilt", "See the finding that it follows from."},
	RebuildNoRoom:                  {Inconclusive, "a rebuild needs more disk space than it may take", "Free space, or raise rebuild.scratchSize."},
	RebuildUnavailable:             {Inconclusive, "a rebuild cannot be made here", "See the detail: run as root on a kernel with namespaces, or choose other derivations (--rebuild)."},
	DerivationDiffers:              {Drift, "a derivation of the embedded flake differs from the release's", "Find the attribute or source in the flake; nothing else explains the different system."},
	PressureUnknown:                {Notice, "the load of other programs is unknown", "Boot a kernel with pressure stall information (psi=1), or set neighbour.maxPressure to 0; neighbour.rate and idle priorities work without it."},
	PressureLasting:                {Notice, "other programs waited for longer than a run may pause", "Nothing to do for the verdict; if it happens often, raise neighbour.maxPause, or raise neighbour.maxPressure above the pressure of the machine's own work."},
	CoverageOverdue:                {Inconclusive, "store paths were not hashed as often as the policy requires", "Run again: each run continues where the last one stopped. Or give it more time (contents.budget), or allow more time between checks (ledger.contentsEvery)."},
	InputFetched:                   {Notice, "build inputs were fetched from a substituter", "Nothing to do: the outputs built from them were compared with the release."},
	NotSigned:                      {Notice, "this report is not signed", "See the detail: restore the key (the credential ec-verify-report-key, or report.keyFile), and check whether the disk is full; the verdict does not depend on it."},
	ForeignReport:                  {Notice, "a file among the signed reports is damaged or was not written by this machine", "It was set aside under a name that ends in .foreign, and the chain of reports continues without it. Find out who could write there, or what damages the disk."},
	ChoseNothing:                   {Inconclusive, "the policy chooses nothing to rebuild", "Correct rebuild.firstParty (a pattern matches names of derivations, such as every-channel-*, or one of their attributes, such as src=*-source), or make another choice (--rebuild)."},
	NoneChosen:                     {Notice, "the unit for rebuilds had nothing to rebuild", "Set rebuild.choice to the derivations to rebuild, or disable its timer: systemctl disable --now ec-verify-rebuild.timer."},
	PatternUnmatched:               {Notice, "a pattern of the policy matches nothing", "Check whether it is misspelt in rebuild.firstParty; the derivations that it should match were not rebuilt."},
	EtcAltered:                     {Drift, "an entry of /etc differs from the release's", "Find out who changed it, and let the accepted system create it again: switch to it, or reboot."},
	FileUnknown:                    {Drift, "a file that the release does not put there", "Find out who put it there and what it is for; remove it, or allow it in machine.allow with the reason."},
	AccountAltered:                 {Drift, "an account or key gives access that the release does not give", "Find out who changed it and what was done with it; lock the account or remove the key."},
	UnitUnknown:                    {Drift, "a unit that the release does not have", "Find out who put it there (systemctl cat) and what it starts; remove it and run systemctl daemon-reload, or allow it in machine.allow with the reason."},
	UnitAltered:                    {Drift, "the service manager runs something for a unit that is not in its files", "Find out what it runs (systemctl show) and who changed that; then run systemctl daemon-reload and restart the unit, or reboot."},
	FirewallAltered:                {Drift, "the kernel's rules for packets differ from the configuration's", "Find out who changed them (nft list ruleset) and what came through; then restart the unit that makes them (nftables, firewall), or reboot. Or allow it in machine.allow with the reason, where a service makes rules of its own."},
	UnitStale:                      {Inconclusive, "the service manager has a unit as it was before its file changed", "Run systemctl daemon-reload and run again; until then it is unknown which version is in effect."},
	CodeUnknown:                    {Drift, "code runs that is not a file of the release", "Find out who started it (systemctl status PROCESS) and keep a copy of it (/proc/PROCESS/exe, bpftool prog dump) before it ends; or allow it in machine.allow with the reason."},
	SettingAltered:                 {Drift, "a setting of the kernel differs from the release's", "Find out who set it (sysctl); set it back (systemctl restart systemd-sysctl) or reboot. Or allow it in machine.allow with the reason, if a service sets it."},
	SocketUnknown:                  {Drift, "a process listens that is no service of the release", "Find out who started it (systemctl status PROCESS) and who has been connected to it; end it, or allow it in machine.allow with the reason."},
	WrittenUnknown:                 {Drift, "written to the root since the boot", "Find out who wrote it and what it is for; if the root is in memory, a reboot removes it. Or allow it in machine.allow with the reason."},
	PathUnregistered:               {Notice, "store paths that Nix has not registered", "Nothing to do after an interrupted build: nix-collect-garbage removes them. Otherwise find out who put them there; a program that runs from there has its own finding."},
	LinkedOutside:                  {Notice, "files of the store that have a hard link outside of it", "Find the other names (find / -xdev -samefile FILE) and their origin, such as a backup; a link gives nobody a right."},
	MachineUnseen:                  {Inconclusive, "a part of the running machine could not be checked", "See the detail. If a right is missing, run as root; ec-verify config check names the rights that a unit lacks."},
	SourceElsewhere:                {Notice, "the candidate carries no flake", "Nothing to do here; the audit of the machine that runs it checks the flake."},
	CandidateAbsent:                {Inconclusive, "the candidate is not on this machine yet", "Have ec-verify switch TAG --from STORE fetch it, judge it and switch to it; or copy it here without switching (nix copy), and run again."},
	MachineElsewhere:               {Notice, "the running machine can't be checked from here", "Run on the machine itself for a complete answer."},
	ExceptionUsed:                  {Notice, "differences that the policy allows", "Nothing to do as long as the reason is valid."},
	ExceptionUnused:                {Notice, "an exception that matched nothing", "Remove it from machine.allow."},
	ExceptionOver:                  {Notice, "an exception that has ended", "Remove it from machine.allow, or extend it."},
	BudgetSpent:                    {Inconclusive, "the time for rebuilds ran out", "Run again, give it more time (--budget), or rebuild a sample at a time."},
}

// ClassOf returns the class of c. A cause without a class is a mistake of this program;
// it counts as inconclusive, so that it can never verify anything.
func ClassOf(c Cause) Class {
	if known, ok := causes[c]; ok {
		return known.class
	}
	return Inconclusive
}

// Title returns the meaning of c in a few words.
func Title(c Cause) string {
	if known, ok := causes[c]; ok {
		return known.title
	}
	return string(c)
}

// Next returns what to do about c, in a sentence or two.
func Next(c Cause) string { return causes[c].next }

// Causes returns all causes, in no order.
func Causes() []Cause { return slices.Collect(maps.Keys(causes)) }
