package systemd

// Event is the kind of a journal entry: its MESSAGE_ID, by which the catalog
// (systemd/ec-verify.catalog) explains it. Events are stable.
type Event string

// The events.
const (
	// RunStarted: a run begins.
	RunStarted Event = "e86de2abe9e947058e515b229f0219be"
	// RunVerified, RunDrifted, RunUntrusted and RunInconclusive: a run ended with this
	// verdict.
	RunVerified     Event = "a810e3782fce4f74b91b3fafea54b796"
	RunDrifted      Event = "dc5d1ad018e9489db8f96f7b703c2f40"
	RunUntrusted    Event = "af2382a8e130446dafd6a3195c4fc12e"
	RunInconclusive Event = "800ddd4d16704c22a497d35ed9ea983f"
	// FindingMade: one difference, or one thing that could not be checked.
	FindingMade Event = "ff353d108e2548adbfe554819b7a8569"
	// RebootPending: a reboot starts another accepted release.
	RebootPending Event = "b3e4d5656d884f87b0d90831adddddae"
	// CoverageOverdue: something was not checked for longer than the policy allows.
	CoverageOverdue Event = "f3ebf875d01a4bfa952b55e46f6cedf8"
	// MetricsFailed: the metrics of a run could not be written.
	MetricsFailed Event = "68ef541849744e149ec9cad4a139bb3e"
	// CommandFailed: the program failed.
	CommandFailed Event = "92956786d0b04f25b417da354da46d42"
)

// Events returns every event.
func Events() []Event {
	return []Event{
		RunStarted, RunVerified, RunDrifted, RunUntrusted, RunInconclusive,
		FindingMade, RebootPending, CoverageOverdue, MetricsFailed, CommandFailed,
	}
}

// Field is the name of a journal field. journald accepts upper-case letters, digits and
// underscores, at most 64 of them, and the library does not check that: so they are
// constants.
type Field string

// The fields; docs/monitoring.md describes them.
const (
	FieldRun           Field = "EC_VERIFY_RUN"
	FieldTool          Field = "EC_VERIFY_TOOL"
	FieldRelease       Field = "EC_VERIFY_RELEASE"
	FieldConfiguration Field = "EC_VERIFY_CONFIGURATION"
	FieldStoreRoot     Field = "EC_VERIFY_STORE_ROOT"
	FieldUnsafe        Field = "EC_VERIFY_UNSAFE"
	FieldLook          Field = "EC_VERIFY_LOOK"
	FieldVerdict       Field = "EC_VERIFY_VERDICT"
	FieldSeconds       Field = "EC_VERIFY_SECONDS"
	FieldBytes         Field = "EC_VERIFY_BYTES"
	FieldUntrusted     Field = "EC_VERIFY_COUNT_UNTRUSTED"
	FieldDrift         Field = "EC_VERIFY_COUNT_DRIFT"
	FieldInconclusive  Field = "EC_VERIFY_COUNT_INCONCLUSIVE"
	FieldNotice        Field = "EC_VERIFY_COUNT_NOTICE"
	FieldLeftOut       Field = "EC_VERIFY_LEFT_OUT"
	FieldClass         Field = "EC_VERIFY_CLASS"
	FieldCause         Field = "EC_VERIFY_CAUSE"
	FieldOfRelease     Field = "EC_VERIFY_OF_RELEASE"
	FieldConsequenceOf Field = "EC_VERIFY_CONSEQUENCE_OF"
	FieldTier          Field = "EC_VERIFY_TIER"
	FieldPath          Field = "EC_VERIFY_PATH"
	FieldFile          Field = "EC_VERIFY_FILE"
	FieldFiles         Field = "EC_VERIFY_FILES"
	FieldField         Field = "EC_VERIFY_FIELD"
	FieldWant          Field = "EC_VERIFY_WANT"
	FieldGot           Field = "EC_VERIFY_GOT"
	FieldDetail        Field = "EC_VERIFY_DETAIL"
	FieldMeaning       Field = "EC_VERIFY_MEANING"
	FieldAdvice        Field = "EC_VERIFY_ADVICE"
	FieldItems         Field = "EC_VERIFY_ITEMS"
	FieldOverdue       Field = "EC_VERIFY_OVERDUE"
	FieldNever         Field = "EC_VERIFY_NEVER"
	FieldEvery         Field = "EC_VERIFY_EVERY"
	FieldOldest        Field = "EC_VERIFY_OLDEST"
)
