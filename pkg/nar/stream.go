package nar

import (
	"encoding/binary"
	"io"
)

const (
	// bufferSize is how many bytes are collected before they are passed on. A buffer
	// fits into a core's second-level cache, from which it is hashed; from 64 to 256
	// KiB the measured time is the same.
	bufferSize = 128 << 10

	// bufferCount is how many buffers an overlapping stream takes turns with:
	// one being hashed, one being filled, and others to ride out a slow read
	// or a late wake-up.
	bufferCount = 4

	// smallRead: a buffer with less room than this counts as full, so that a small
	// file is read with one system call and not split over two buffers.
	smallRead = 32 << 10

	// frontSize is the room in front of a buffer for the bytes left over from the
	// previous one. It is one page, so that large reads are page-aligned: on some
	// processors the kernel copies a fifth slower to other addresses.
	frontSize = 4096

	// wholePieces: pieces are a multiple of this many bytes, except the last: the
	// block size of SHA-256.
	wholePieces = 64
)

// A buffer holds bytes of a NAR, from anywhere in its front on.
type buffer *[frontSize + bufferSize]byte

// A piece is a part of a buffer to be passed on.
type piece struct {
	of    buffer
	bytes []byte
}

// A stream takes the bytes of a NAR and passes them to its writer in large
// pieces. With overlap set it does so on a goroutine of its own, so that the
// next piece is read while one is hashed; the goroutine starts when the first
// buffer is full, never for the many trees that fit in one.
//
// Overlap pays where reading waits, that is for direct reads (1.7 times as fast
// on large files). Out of the page cache, filled by the kernel's own
// read-ahead, it made the walk of one worker 15 % faster at best and always
// took 10 to 25 % more processor time, which other workers then lack: the bytes
// move from one core's cache to another's.
type stream struct {
	w       io.Writer
	overlap bool
	size    int64 // bytes passed on
	err     error // the first error of w; only without overlap

	base buffer
	buf  []byte      // of base; len is what is filled
	free chan buffer // empty buffers; they are made on first need
	full chan piece  // for the goroutine; an empty one ends it
	done chan struct{}
	// running means that a goroutine exists; only it may use w then.
	running bool
	spare   int // buffers not made yet
}

func newStream() stream {
	return stream{
		base:  new([frontSize + bufferSize]byte),
		free:  make(chan buffer, bufferCount),
		full:  make(chan piece, bufferCount),
		done:  make(chan struct{}),
		spare: bufferCount - 1,
	}
}

// start begins a NAR that goes to w. An overlapping w must not fail.
func (s *stream) start(w io.Writer, overlap bool) {
	s.w, s.overlap = w, overlap
	s.size, s.err = 0, nil
	s.fill(s.base, nil)
}

// fill makes b the buffer and puts rest at its beginning.
func (s *stream) fill(b buffer, rest []byte) {
	at := frontSize - len(rest)
	copy(b[at:], rest)
	s.base, s.buf = b, b[at:frontSize]
}

// finish passes on the remaining bytes and waits until w has all of them. It must be
// called once for each start, even if the tree was given up.
func (s *stream) finish() error {
	if s.running {
		s.size += int64(len(s.buf))
		s.full <- piece{s.base, s.buf}
		s.full <- piece{}
		<-s.done
		s.running = false
		s.base = <-s.free
	} else {
		s.overlap = false
		s.pass(len(s.buf))
	}
	s.w = nil
	return s.err
}

// sent returns how many bytes were written since start.
func (s *stream) sent() int64 { return s.size + int64(len(s.buf)) }

// flush passes on the buffer except for an incomplete last block.
func (s *stream) flush() { s.pass(len(s.buf) &^ (wholePieces - 1)) }

// pass passes on the first n bytes of the buffer; the rest stays.
func (s *stream) pass(n int) {
	if n == 0 {
		return
	}
	s.size += int64(n)
	if !s.overlap {
		if s.err == nil {
			_, s.err = s.w.Write(s.buf[:n])
		}
		s.fill(s.base, s.buf[n:])
		return
	}
	if !s.running {
		s.running = true
		go s.drain()
	}
	rest := s.buf[n:]
	s.full <- piece{s.base, s.buf[:n]}
	if s.spare > 0 && len(s.free) == 0 {
		s.spare--
		s.fill(new([frontSize + bufferSize]byte), rest)
		return
	}
	s.fill(<-s.free, rest)
}

// drain is the goroutine that hashes while the walk reads.
func (s *stream) drain() {
	for p := range s.full {
		if p.of == nil {
			break
		}
		_, _ = s.w.Write(p.bytes) // a hash.Hash never returns an error
		s.free <- p.of
	}
	s.done <- struct{}{}
}

// room returns space for at least one and up to want bytes; commit takes the number of
// bytes that were read.
func (s *stream) room(want int64) []byte {
	if int64(cap(s.buf)-len(s.buf)) < min(want, smallRead) {
		s.flush()
	}
	b := s.buf[len(s.buf):cap(s.buf)]
	return b[:min(want, int64(len(b)))]
}

func (s *stream) commit(n int) { s.buf = s.buf[:len(s.buf)+n] }

// take empties the buffer as if it had been passed on, and returns its contents,
// valid until the next write. There must be no overlap.
func (s *stream) take() []byte {
	b := s.buf
	s.size += int64(len(b))
	s.fill(s.base, nil)
	return b
}

// put appends bytes as they are.
func (s *stream) put(b string) {
	for len(b) > cap(s.buf)-len(s.buf) {
		n := cap(s.buf) - len(s.buf)
		s.buf = append(s.buf, b[:n]...)
		b = b[n:]
		s.flush()
	}
	s.buf = append(s.buf, b...)
}

// write appends bytes as they are.
func (s *stream) write(b []byte) {
	for len(b) > 0 {
		n := copy(s.room(int64(len(b))), b)
		s.commit(n)
		b = b[n:]
	}
}

// putLength appends the length of a string of the format.
func (s *stream) putLength(n int64) {
	if cap(s.buf)-len(s.buf) < 8 {
		s.flush()
	}
	s.buf = binary.LittleEndian.AppendUint64(s.buf, uint64(n))
}

// putString appends a string of the format.
func (s *stream) putString(v string) {
	s.putLength(int64(len(v)))
	s.put(v)
	s.put(padding(int64(len(v))))
}
