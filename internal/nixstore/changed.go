package nixstore

import (
	"context"
	"fmt"
	"time"

	"every.channel/ec-verify/pkg/closure"
)

// LastChange returns when a file of a store object was last written to, renamed, or given
// other rights: the latest change time of all its files. Nobody can set it without setting
// the clock or writing to the disk beneath the file system. The errors are those of
// [Store.WalkObject].
func (s *Store) LastChange(ctx context.Context, p closure.StorePath) (time.Time, error) {
	var last time.Time
	err := s.WalkObject(ctx, p, func(e *Entry) error {
		if at := time.Unix(e.Stat.Ctim.Unix()); at.After(last) {
			last = at
		}
		return nil
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("when %s was changed last: %w", p, err)
	}
	return last, nil
}
