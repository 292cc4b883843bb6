package closure

import "every.channel/ec-verify/pkg/nar"

// Cause says what a difference is due to, as far as the witnesses tell. Causes
// are stable: they stand in reports, journals and metrics, and a name never
// changes its meaning.
type Cause string

// What [Witnesses.Causes] and [Compare] can find.
const (
	// DiskAltered: the files on disk differ from the release; the database, where
	// it was asked, still says what the release says. Tampering, or rot.
	DiskAltered Cause = "disk-altered"
	// DatabaseAltered: the Nix database claims another hash, size, content
	// address or other references than the release. It says nothing of the disk:
	// a size may be altered beside it, or to go with it.
	DatabaseAltered Cause = "database-altered"
	// Unregistered: the path is on disk and the Nix database does not know it,
	// so that garbage collection may take it away.
	Unregistered Cause = "unregistered"
	// ReplacedUnexplained: disk and database agree with each other and not with
	// the release. Either somebody altered both, or another build was
	// registered under this path; only a rebuild tells which.
	ReplacedUnexplained Cause = "replaced-unexplained"
	// CoverUp: disk and database agree with each other, and a rebuild agrees
	// with the release: the disk was altered and the database made to match.
	// The gravest.
	CoverUp Cause = "cover-up"
	// OtherBuild: disk, database and rebuild agree with each other and not with
	// the release: this machine consistently builds something else.
	OtherBuild Cause = "other-build"
	// DiskAndDatabaseAltered: disk, database and release all differ.
	DiskAndDatabaseAltered Cause = "disk-and-database-altered"
	// UnreproducibleBuild: a rebuild gives something else than the release. Where
	// disk or database differ too, that has its own cause.
	UnreproducibleBuild Cause = "unreproducible"
	// Missing: the release has the path and the disk has not.
	Missing Cause = "missing"
	// Extra: the system's closure has the path and the release has not.
	Extra Cause = "extra"
)

// Witnesses are the NAR hashes that the four witnesses give for one store
// path. The zero hash stands for a witness that was not asked; a path that the
// disk lacks or that the database does not know is not a matter of hashes.
type Witnesses struct {
	Manifest nar.Hash // wanted: what the release says
	Disk     nar.Hash // observed: the bytes in the store
	Database nar.Hash // claimed: what Nix registered
	Rebuild  nar.Hash // observed: the same derivation built afresh
}

// Causes returns what the differences among w are due to, the gravest first,
// and nothing where every witness that was asked agrees with the manifest. It
// is the table of docs/design.md; a cause that needs a witness which was not
// asked is never returned.
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
