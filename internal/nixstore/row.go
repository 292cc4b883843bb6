package nixstore

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"

	"github.com/nix-community/go-nix/pkg/sqlite/nix_v10"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// RowError means that the database says something of a path that Nix would not have
// written: the database is damaged or was tampered with. It is a finding about the
// machine; the rest of the database is still read.
type RowError struct {
	// Path is the path in the database, at most 300 bytes of it. It need not be a store
	// path.
	Path string
	// Field is the column, or "references", or "row" if no single column is to blame.
	Field string
	// Reason says what is wrong with it.
	Reason string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("nix database: malformed %s of %q: %s", e.Field, e.Path, e.Reason)
}

func rowError(path, field string, reason error) *RowError {
	return &RowError{Path: clip(path), Field: field, Reason: clip(reason.Error())}
}

// decodeRow parses the columns of a row in the forms that Nix writes.
func decodeRow(dir closure.StoreDir, p closure.StorePath, row nix_v10.QueryPathInfoRow) (closure.PathInfo, []*RowError) {
	info := closure.PathInfo{Path: p, NarSize: row.Narsize.Int64}
	var malformed []*RowError
	bad := func(field string, err error) { malformed = append(malformed, rowError(string(p), field, err)) }

	// The column is in base 16; ParseHash would accept the other forms too.
	hash, err := nar.ParseHash(row.Hash)
	switch {
	case err != nil:
		bad("hash", err)
	case len(row.Hash) != len("sha256:")+2*nar.HashSize:
		bad("hash", fmt.Errorf("%q is not in base 16", clip(row.Hash)))
	case hash.IsZero():
		// Nix itself takes this as "unknown", and fills in what it finds.
		bad("hash", errors.New("all zero"))
	default:
		info.NarHash = hash
	}
	// Nix writes null, which is read as 0, for an unknown size.
	if row.Narsize.Int64 < 0 {
		bad("narSize", fmt.Errorf("%d is negative", row.Narsize.Int64))
	}
	if s := row.Deriver.String; s != "" {
		switch deriver, err := dir.Parse(s); {
		case err != nil:
			bad("deriver", err)
		case !deriver.IsDerivation():
			bad("deriver", fmt.Errorf("%q is not a derivation", clip(s)))
		default:
			info.Deriver = deriver
		}
	}
	if s := row.Ca.String; s != "" {
		if contentAddress().MatchString(s) {
			info.CA = s
		} else {
			bad("ca", fmt.Errorf("%q is not a content address", clip(s)))
		}
	}
	return info, malformed
}

// contentAddress matches Nix's content addresses: "text:sha256:…", "fixed:sha256:…",
// "fixed:r:sha256:…", "fixed:git:sha1:…". Digests are in base 32, where md5 takes 26
// characters and sha512 103; in base 16 that would be 128.
var contentAddress = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(text|fixed)(:[a-z]{1,8})?:[a-z0-9]{1,16}:[0-9a-z]{26,128}$`)
})

// malformedRow returns a RowError if a row could not be read because of its contents,
// else nil.
func malformedRow(p closure.StorePath, err error) *RowError {
	var se *sqlite.Error
	if errors.As(err, &se) {
		if se.Code()&math.MaxUint8 == sqlite3.SQLITE_TOOBIG {
			return rowError(string(p), "row", fmt.Errorf("longer than %d bytes", maxValueSize))
		}
		return nil
	}
	// A column has a value that does not convert to its type; database/sql has no type
	// for that error.
	if m := scanError().FindStringSubmatch(err.Error()); m != nil {
		return rowError(string(p), m[1], errors.New(strings.TrimPrefix(err.Error(), m[0])))
	}
	return nil
}

var scanError = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^sql: Scan error on column index [0-9]+, name "([A-Za-z]+)": `)
})
