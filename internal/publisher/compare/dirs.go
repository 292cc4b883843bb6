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
)

// Options say how to compare. The zero value is fit.
type Options struct {
	// TempDir is where images within images are put; "" is that of os.TempDir.
	TempDir string
	// Releases has both directories be whole releases: what either lacks for that is
	// a failure.
	Releases bool
	// Limits bound what is read of one image; zero ones are image's own.
	Limits image.Limits
}

// maxNames bounds the names of the files in a directory, in bytes of memory: some
// 100,000 files.
const maxNames = 16 << 20

// ErrSame says that what was to be compared is one and the same.
var ErrSame = errors.New("both are the same; name two builds")

// Dirs compares the files of two directories and of those in them, by their
// names, and which directories there are. Only a and b themselves may be links that
// are followed: a link in them is compared as a link. What SHA256SUMS.txt or release.json list and neither side
// has is a failure. The error is of a directory that cannot be listed, [ErrSame],
// or of ctx; what else goes wrong is in the Result.
func Dirs(ctx context.Context, a, b string, opts Options) (*Result, error) {
	if err := checkDistinct(a, b); err != nil {
		return nil, err
	}
	r := &Result{A: a, B: b}
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
			// What is in it says that it is there.
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
	c.checkSums(a, b)
	c.checkListed(names, a, b)
	if opts.Releases {
		c.checkRelease("A", a)
		c.checkRelease("B", b)
	}
	c.named()
	c.notePermissions()
	return r, nil
}

// checkDistinct wants a and b to be two files or directories, be it by other
// names.
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
// names; links that are named are followed.
func Files(ctx context.Context, a, b string, opts Options) (*Result, error) {
	if err := checkDistinct(a, b); err != nil {
		return nil, err
	}
	r := &Result{A: a, B: b}
	c := comparison{r: r, opts: opts, sums: make(map[string]pairSum)}
	name := filepath.Base(a)
	if err := c.files(ctx, name, a, b, hostfile.Open); err != nil {
		return nil, err
	}
	c.named()
	c.notePermissions()
	return r, nil
}

// list returns the names of the files in and below dir, and those of the
// directories with a '/' behind them, sorted.
func list(dir string) ([]string, error) {
	var names []string
	held := 0
	hold := func(list *[]string, name string) error {
		const cost = 64 // of a string in a slice that grows, and in the one that is sorted
		if held += len(name) + cost; held > maxNames {
			return fmt.Errorf("the names of the files in %q take more than %d bytes", dir, maxNames)
		}
		*list = append(*list, name)
		return nil
	}
	for todo := []string{""}; len(todo) > 0; {
		in := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		// A link to dir is followed. To resolve it by its text would leave what is
		// seen through /proc/PID/root.
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

// comparison is the state of one.
type comparison struct {
	r    *Result
	opts Options
	sums map[string]pairSum // by the name of the file

	permissions      int // files whose permissions differ in what no build sets
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
	c.r.Compared = append(c.r.Compared, name)
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

// contents says what differs in a pair, by what it is.
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

// pair is a file of both sides, open, whose bytes differ.
type pair struct {
	name string
	a, b *os.File
	sum  pairSum
}

// contents is the difference that the bytes themselves are.
func (p pair) contents() Difference {
	b := p.sum.bytes
	return Difference{Kind: Contents, Bytes: &b, A: "sha256 " + p.sum.digestA.String(), B: "sha256 " + p.sum.digestB.String()}
}

// read returns both files whole, at most limit bytes of each.
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
