package verify

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/nar"
)

const (
	// maxWorkers limits the memory on a machine with many processors: a worker takes some
	// 300 KiB.
	maxWorkers = 32

	// diskWorkers is the minimum number of workers that read from the disk, because disks
	// are fast only with several requests at once.
	diskWorkers = 16

	// filesOfWorker is how many files a worker has open at most: those of two walks.
	filesOfWorker = 2 * nar.MaxOpen

	// otherFiles is how many files a run has open beside those of its workers, and some
	// to spare.
	otherFiles = 100
)

// workers returns the number of goroutines that hash, each a pair of paths: two for each
// processor, so that some read while others wait for the disk. From the page cache that is
// no slower, and with a cold cache it takes a third less time. With [nar.ReadDisk] nothing
// reads ahead, and a worker waits for each piece. If the limit of open files permits none,
// it returns an error.
func (v *Verifier) workers() (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return workersWithin(v.mostWorkers(), files.Cur)
}

func (v *Verifier) mostWorkers() int {
	if v.Workers > 0 {
		return v.Workers
	}
	n := 2 * runtime.GOMAXPROCS(0)
	if v.Read == nar.ReadDisk {
		n = max(n, diskWorkers)
	}
	return min(n, maxWorkers)
}

// workersWithin returns how many of n workers a limit of open files permits. Without this,
// a file that could not be opened would look unreadable.
func workersWithin(n int, files uint64) (int, error) {
	const least = otherFiles + filesOfWorker
	if files < least {
		return 0, fmt.Errorf("the limit of open files is %d, and hashing requires %d: raise it (ulimit -n, or LimitNOFILE= of the unit)", files, least)
	}
	return int(min(uint64(n), (files-otherFiles)/filesOfWorker)), nil //nolint:gosec // n is positive
}
