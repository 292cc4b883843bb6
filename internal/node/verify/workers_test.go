package verify

import "testing"

func TestWorkersWithinOpenFiles(t *testing.T) {
	const one = otherFiles + filesOfWorker
	for _, tt := range []struct {
		n     int
		files uint64
		want  int
	}{
		{32, 1 << 63, 32},
		{32, otherFiles + 32*filesOfWorker, 32},
		{32, otherFiles + 32*filesOfWorker - 1, 31},
		{4, 1024, 4},
		{1024, one, 1},
		{1, one, 1},
	} {
		if got, err := workersWithin(tt.n, tt.files); got != tt.want || err != nil {
			t.Errorf("%d workers with %d files: %d, %v; want %d", tt.n, tt.files, got, err, tt.want)
		}
	}
	if got, err := workersWithin(1, one-1); err == nil {
		t.Errorf("%d workers with too few files", got)
	}
}
