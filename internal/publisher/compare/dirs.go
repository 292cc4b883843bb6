package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// Options configures a comparison. The zero value is ready for use.
type Options struct {
	// TempDir is the directory for nested images; "" means os.TempDir.
	TempDir string
	// Releases requires both directories to be complete releases: anything missing is
	// a failure.
	Releases bool
	// Limits limits what is read of one image; zero values mean image's own limits.
	Limits image.Limits
}

// maxNames limits the memory for the file names in a directory, in bytes: some
// 100,000 files.
const maxNames = 16 << 20

// ErrSame means that both sides are the same file or directory.
var ErrSame = errors.New("both are the same; name two builds")

// Dirs compares the files in two directory trees by their names, and the directories
// themselves. A link is followed only if it is a or b itself; other links are
// compared as links. A file listed in SHA256SUMS.txt or release.json that neither
// side has is a failure. It returns an error if a directory can't be listed,
// [ErrSame], or ctx's error; other problems are in the Result.
func Dirs(ctx context.Context, a, b string, opts Options) (*Result, error) {
	if err := checkDistinct(a, b); err != nil {
		return nil, err
	}
	r := &Result{A: excerpt.Raw(a), B: excerpt.Raw(b)}
	filesA, err := list(a)
	if err != nil {
		return nil, err
	}
	filesB, err := list(b)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(filesA, filesB)
	slices.Sort(names)
	names = slices.Compact(names)
	c := comparison{r: r, opts: opts, sums: make(map[string]pairSum)}
	for i, name := range names {
		_, inA := slices.BinarySearch(filesA, name)
		_, inB := slices.BinarySearch(filesB, name)
		kind, _ := release.KindOf(name)
		switch {
		case (!inA || !inB) && strings.HasSuffix(name, "/") && i+1 < len(names) && strings.HasPrefix(names[i+1], name):
			// Its contents are compared, which shows that it exists.
		case kind == release.KindBundle:
			r.note("%s is not compared: each signing gives another signature", name)
		case !inB:
			r.in(name).add(Difference{Kind: OnlyA})
		case !inA:
			r.in(name).add(Difference{Kind: OnlyB})
		default:
			if err := c.nodes(ctx, name, filepath.Join(a, name), filepath.Join(b, name)); err != nil {
				return nil, err
			}
		}
	}
	sideA := readSide("A", a, func(p pairSum) release.Digest { return p.digestA })
	sideB := readSide("B", b, func(p pairSum) release.Digest { return p.digestB })
	c.checkSums(sideA, sideB)
	c.checkListed(names, sideA, sideB)
	if opts.Releases {
		c.checkRelease(sideA)
		c.checkRelease(sideB)
	}
	c.named()
	c.notePermissions()
	return r, nil
}

// checkDistinct returns an error if a and b are the same file or directory, even
// under different names.
func checkDistinct(a, b string) error {
	infoA, err := os.Stat(a)
	if err != nil {
		return err
	}
	infoB, err := os.Stat(b)
	if err != nil {
		return err
	}
	if os.SameFile(infoA, infoB) {
		return ErrSame
	}
	return nil
}

// Files compares two files, such as two manifests or two images, whatever their
// names; links are followed.
func Files(ctx context.Context, a, b string, opts Options) (*Result, error) {
	if err := checkDistinct(a, b); err != nil {
		return nil, err
	}
	r := &Result{A: excerpt.Raw(a), B: excerpt.Raw(b)}
	c := comparison{r: r, opts: opts, sums: make(map[string]pairSum)}
	name := filepath.Base(a)
	if err := c.files(ctx, name, a, b, hostfile.Open); err != nil {
		return nil, err
	}
	c.named()
	c.notePermissions()
	return r, nil
}

// list returns the sorted names of the files below dir, and those of the directories
// with a trailing '/'.
func list(dir string) ([]string, error) {
	var names []string
	held := 0
	hold := func(list *[]string, name string) error {
		const cost = 64 // memory for a string in a growing slice, and in the sorted one
		if held += len(name) + cost; held > maxNames {
			return fmt.Errorf("the names of the files in %q take more than %d bytes", dir, maxNames)
		}
		*list = append(*list, name)
		return nil
	}
	for todo := []string{""}; len(todo) > 0; {
		in := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		// A link to dir is followed by the kernel: resolving its text would leave the
		// tree seen through /proc/PID/root.
		d, err := os.Open(filepath.Join(dir, in))
		if err != nil {
			return nil, err
		}
		for err == nil {
			var batch []fs.DirEntry
			batch, err = d.ReadDir(1000)
			for _, e := range batch {
				name := path.Join(in, e.Name())
				var tooMany error
				if e.IsDir() {
					tooMany = hold(&todo, name)
					name += "/"
				}
				if tooMany = errors.Join(tooMany, hold(&names, name)); tooMany != nil {
					d.Close()
					return nil, tooMany
				}
			}
		}
		d.Close()
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

// comparison is the state of one comparison.
type comparison struct {
	r    *Result
	opts Options
	sums map[string]pairSum // by the name of the file

	permissions      int // files that differ only in permissions that no build sets
	firstPermissions string
}

// files compares one file of A with one of B.
func (c *comparison) files(ctx context.Context, name, a, b string, open func(string) (*os.File, error)) error {
	fileA, err := open(a)
	if err != nil {
		c.r.fail(name, "A", err)
		return nil
	}
	defer fileA.Close()
	fileB, err := open(b)
	if err != nil {
		c.r.fail(name, "B", err)
		return nil
	}
	defer fileB.Close()
	sum, side, err := readPair(ctx, fileA, fileB)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.r.fail(name, side, err)
		return nil
	}
	c.sums[name] = sum
	c.r.Compared = append(c.r.Compared, excerpt.Raw(name))
	if !sum.equal() {
		c.contents(ctx, pair{name: name, a: fileA, b: fileB, sum: sum})
	}
	infoA, err := fileA.Stat()
	if err != nil {
		c.r.fail(name, "A", err)
		return nil
	}
	infoB, err := fileB.Stat()
	if err != nil {
		c.r.fail(name, "B", err)
		return nil
	}
	c.modes(name, infoA, infoB)
	return ctx.Err()
}

// contents describes the differences of a pair, according to its kind.
func (c *comparison) contents(ctx context.Context, p pair) {
	kind, configuration := release.KindOf(p.name)
	switch kind {
	case release.KindSums:
		c.checksums(p)
	case release.KindInfo:
		c.info(p)
	case release.KindManifest:
		c.manifests(p)
	case release.KindListing:
		c.listings(ctx, p, configuration)
	case release.KindDerivations:
		c.derivations(p, configuration)
	default:
		c.images(ctx, p)
	}
}

// pair is an open file of both sides whose bytes differ.
type pair struct {
	name string
	a, b *os.File
	sum  pairSum
}

// contents returns the difference for the bytes themselves.
func (p pair) contents() Difference {
	b := p.sum.bytes
	return Difference{Kind: Contents, Bytes: &b, A: excerpt.Raw("sha256 " + p.sum.digestA.String()), B: excerpt.Raw("sha256 " + p.sum.digestB.String())}
}

// read returns both files completely, at most limit bytes of each.
func (p pair) read(limit int64) (a, b []byte, err error) {
	one := func(f *os.File) ([]byte, error) {
		data, err := io.ReadAll(io.NewSectionReader(f, 0, limit+1))
		if err == nil && int64(len(data)) > limit {
			err = fmt.Errorf("larger than %d bytes", limit)
		}
		return data, err
	}
	if a, err = one(p.a); err != nil {
		return nil, nil, err
	}
	b, err = one(p.b)
	return a, b, err
}
