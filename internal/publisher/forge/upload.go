package forge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"every.channel/ec-verify/internal/hostfile"
)

// Progress says how far an upload is. The zero value is ready; its methods may
// be called from any goroutine, and of a nil one.
type Progress struct {
	asset       atomic.Pointer[string]
	done, total atomic.Int64
}

// Snapshot returns what is being sent, and how much of everything was.
func (p *Progress) Snapshot() (asset string, done, total int64) {
	if p == nil {
		return "", 0, 0
	}
	if s := p.asset.Load(); s != nil {
		asset = *s
	}
	return asset, p.done.Load(), p.total.Load()
}

// begin says which files are to be sent.
func (p *Progress) begin(files []File) {
	if p == nil {
		return
	}
	for _, f := range files {
		p.total.Add(f.Size)
	}
}

// file says which one is sent now.
func (p *Progress) file(name string) {
	if p != nil {
		p.asset.Store(&name)
	}
}

// add says that n bytes more were sent.
func (p *Progress) add(n int64) {
	if p != nil {
		p.done.Add(n)
	}
}

// File is one to be uploaded, and what its contents must be.
type File struct {
	Name   string
	Path   string
	Size   int64
	Digest [sha256.Size]byte
}

func (f File) sum() string { return fmt.Sprintf("%x", f.Digest) }

// upload adds a file to a release and compares the forge's answer with the file. A failed
// try leaves nothing behind; the assets in old stay.
func (c *Client) upload(ctx context.Context, id int64, f File, old []Asset) (Asset, error) {
	a, sum, err := c.attach(ctx, id, f, f.Size, old)
	if err == nil && sum != f.Digest {
		err = fmt.Errorf("upload %s: %w", f.Name, errChanged)
	}
	return a, err
}

// uploadPart adds the first n bytes of a file.
func (c *Client) uploadPart(ctx context.Context, id int64, f File, n int64, old []Asset) (Asset, error) {
	a, _, err := c.attach(ctx, id, f, n, old)
	return a, err
}

// attach adds the first n bytes of a file as an asset, and returns their digest.
func (c *Client) attach(ctx context.Context, id int64, f File, n int64, old []Asset) (a Asset, digest [sha256.Size]byte, err error) {
	what := fmt.Sprintf("upload %s (%d bytes)", f.Name, f.Size)
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	if _, err := w.CreateFormFile("attachment", f.Name); err != nil {
		return a, digest, err
	}
	kind, opening := w.FormDataContentType(), bytes.Clone(head.Bytes())
	if err := w.Close(); err != nil {
		return a, digest, err
	}
	closing := bytes.Clone(head.Bytes()[len(opening):])
	progress := c.progress
	if n < f.Size {
		progress = nil // it is sent to ask, and again to be there
	}
	var sent *sending
	in := &body{kind: kind, size: int64(len(opening)+len(closing)) + n}
	in.open = func() (io.ReadCloser, error) {
		file, err := hostfile.Open(f.Path)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		if err == nil && info.Size() != f.Size {
			err = errChanged
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if sent != nil {
			progress.add(-sent.n) // it is sent again
		}
		sent = &sending{file: file, sum: sha256.New(), progress: progress}
		sent.r = io.MultiReader(bytes.NewReader(opening), io.LimitReader(sent, n), bytes.NewReader(closing))
		return &multipartBody{sent}, nil
	}
	err = c.send(ctx, request{
		what: what, method: http.MethodPost, path: fmt.Sprintf("/releases/%d/assets", id), query: url.Values{"name": {f.Name}},
		body: in, answer: &a,
		// The forge may have taken it, and would keep both.
		before: func(ctx context.Context) error { return c.removeNamed(ctx, id, f.Name, old) },
	})
	if err != nil {
		return a, digest, c.explained(err, f.Name)
	}
	if a.Name != f.Name || a.Size != n || a.ID <= 0 {
		return a, digest, fmt.Errorf("%s: %s stored it as %q with %d bytes", what, c, c.clean(a.Name), a.Size)
	}
	return a, [sha256.Size]byte(sent.sum.Sum(nil)), nil
}

// explained adds to an answer that refuses an asset what can be done about it.
func (c *Client) explained(err error, name string) error {
	if refused, ok := errors.AsType[*StatusError](err); ok && refused.Status == http.StatusBadRequest && strings.Contains(refused.Message, "not allowed") {
		refused.Hint = fmt.Sprintf("add %q to ALLOWED_TYPES of [repository.release] in the forge's app.ini", extension(name))
	}
	return err
}

var errChanged = errors.New("the file was changed since it was checked; start again")

// sending reads the file that is sent, and notes what was read.
type sending struct {
	r        io.Reader
	file     *os.File
	sum      hash.Hash
	progress *Progress
	n        int64
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	s.progress.add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		err = &localError{err}
	}
	return n, err
}

// multipartBody is the whole body around it.
type multipartBody struct{ s *sending }

func (b *multipartBody) Read(p []byte) (int, error) { return b.s.r.Read(p) }

func (b *multipartBody) Close() error { return b.s.file.Close() }
