package nar

import (
	"encoding/binary"
	"io"
)

const (
	// bufferSize is how much is collected before it is passed on, in bytes. A
	// buffer stays within a core's second-level cache, where the hash finds it;
	// from 64 to 256 KiB the measured time is the same.
	bufferSize = 128 << 10

	// bufferCount is how many buffers an overlapping stream takes turns with:
	// one being hashed, one being filled, and others to ride out a slow read
	// or a late wake-up.
	bufferCount = 4

	// smallRead is the room below which a buffer counts as full, so that a
	// small file is read with one system call and not split over two buffers.
	smallRead = 32 << 10
)

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
	size    int64 // bytes flushed
	err     error // the first error of w; only without overlap

	buf  []byte      // len is what is filled
	free chan []byte // empty buffers; buffers are made on first need
	full chan []byte // buffers for the goroutine; nil ends it
	done chan struct{}
	// running says that there is a goroutine, which then alone touches w.
	running bool
	spare   int // buffers not made yet
}

func newStream() stream {
	return stream{
		buf:   make([]byte, 0, bufferSize),
		free:  make(chan []byte, bufferCount),
		full:  make(chan []byte, bufferCount),
		done:  make(chan struct{}),
		spare: bufferCount - 1,
	}
}

// start begins a NAR that goes to w. An overlapping w must not fail.
func (s *stream) start(w io.Writer, overlap bool) {
	s.w, s.overlap = w, overlap
	s.size, s.err = 0, nil
	s.buf = s.buf[:0]
}

// finish passes on what is left and waits until w has all of it. It must be
// called once for each start, also when the tree was given up.
func (s *stream) finish() error {
	if s.running {
		s.size += int64(len(s.buf))
		s.full <- s.buf
		s.full <- nil
		<-s.done
		s.running = false
		s.buf = (<-s.free)[:0]
	} else {
		s.overlap = false
		s.flush()
	}
	s.w = nil
	return s.err
}

// sent returns how many bytes were put in since start.
func (s *stream) sent() int64 { return s.size + int64(len(s.buf)) }

// flush passes on what is in the buffer and makes it empty.
func (s *stream) flush() {
	if len(s.buf) == 0 {
		return
	}
	s.size += int64(len(s.buf))
	if !s.overlap {
		if s.err == nil {
			_, s.err = s.w.Write(s.buf)
		}
		s.buf = s.buf[:0]
		return
	}
	if !s.running {
		s.running = true
		go s.drain()
	}
	s.full <- s.buf
	if s.spare > 0 && len(s.free) == 0 {
		s.spare--
		s.buf = make([]byte, 0, bufferSize)
		return
	}
	s.buf = (<-s.free)[:0]
}

// drain is the goroutine that hashes while the walk reads.
func (s *stream) drain() {
	for b := range s.full {
		if b == nil {
			break
		}
		_, _ = s.w.Write(b) // a hash.Hash never returns an error
		s.free <- b
	}
	s.done <- struct{}{}
}

// room returns space for up to want bytes to be read into, at least one; commit
// says how many were.
func (s *stream) room(want int64) []byte {
	if int64(cap(s.buf)-len(s.buf)) < min(want, smallRead) {
		s.flush()
	}
	b := s.buf[len(s.buf):cap(s.buf)]
	return b[:min(want, int64(len(b)))]
}

func (s *stream) commit(n int) { s.buf = s.buf[:len(s.buf)+n] }

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
