package closure

import "every.channel/ec-verify/pkg/nar"

// Cause is the cause of a difference, as far as the witnesses show it. Causes are
// stable: they appear in reports, journals and metrics, and never change their
// meaning.
type Cause string

// The results of [Witnesses.Causes] and [Compare].
const (
	// DiskAltered: the files on disk differ from the release; the database, if it was
	// asked, still agrees with the release. Tampering, or a failing disk.
	DiskAltered Cause = "disk-altered"
	// DatabaseAltered: the Nix database claims another hash, size, content address or
	// other references than the release. This says nothing about the disk: a size may
	// be altered alone or together with the disk.
	DatabaseAltered Cause = "database-altered"
	// Unregistered: the path is on disk, but not in the Nix database, so the garbage
	// collector may delete it.
	Unregistered Cause = "unregistered"
	// ReplacedUnexplained: disk and database agree with each other, but not with the
	// release. Either somebody altered both, or another build was registered under
	// this path; only a rebuild can tell.
	ReplacedUnexplained Cause = "replaced-unexplained"
	// CoverUp: disk and database agree with each other, and a rebuild agrees
	// with the release: the disk was altered and the database made to match.
	// The gravest.
	CoverUp Cause = "cover-up"
	// OtherBuild: disk, database and rebuild agree with each other, but not with the
	// release: this machine consistently builds something else.
	OtherBuild Cause = "other-build"
	// DiskAndDatabaseAltered: disk, database and release all differ.
	DiskAndDatabaseAltered Cause = "disk-and-database-altered"
	// UnreproducibleBuild: a rebuild differs from the release. If disk or database
	// differ too, that has its own cause.
	UnreproducibleBuild Cause = "unreproducible"
	// Missing: the path is in the release, but not on the disk.
	Missing Cause = "missing"
	// Extra: the path is in the system's closure, but not in the release.
	Extra Cause = "extra"
)

// Witnesses are the NAR hashes of one store path from four witnesses. A zero hash
// means that the witness was not asked; a path missing from the disk or the database
// is handled elsewhere.
type Witnesses struct {
	Manifest nar.Hash // wanted: what the release says
	Disk     nar.Hash // observed: the files in the store
	Database nar.Hash // claimed: what Nix registered
	Rebuild  nar.Hash // observed: a new build of the same derivation
}

// Causes returns the causes of the differences among w, the gravest first, and
// nothing if every witness that was asked agrees with the manifest. It implements the
// table in docs/design.md; a cause that needs a witness which was not asked is never
// returned.
func (w Witnesses) Causes() []Cause {
	diskOK := w.Disk == w.Manifest
	databaseOK := w.Database.IsZero() || w.Database == w.Manifest
	rebuilt := !w.Rebuild.IsZero()
	rebuildOK := !rebuilt || w.Rebuild == w.Manifest
	var causes []Cause
	switch {
	case w.Disk.IsZero() || diskOK:
		if !databaseOK {
			causes = append(causes, DatabaseAltered)
		}
	case databaseOK:
		causes = append(causes, DiskAltered)
	case w.Database != w.Disk:
		causes = append(causes, DiskAndDatabaseAltered)
	case !rebuilt:
		causes = append(causes, ReplacedUnexplained)
	case rebuildOK:
		causes = append(causes, CoverUp)
	case w.Rebuild == w.Disk:
		return append(causes, OtherBuild) // the rebuild's difference is the same one
	default:
		causes = append(causes, ReplacedUnexplained)
	}
	if !rebuildOK {
		causes = append(causes, UnreproducibleBuild)
	}
	return causes
}
