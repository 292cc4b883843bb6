package sha256pair

// WriteBoth does a.Write(p) and b.Write(q), and takes little longer than the longer one of
// them. The digests must be different; p and q may overlap.
func WriteBoth(a, b *Digest, p, q []byte) {
	if a.other != nil || b.other != nil {
		_, _ = a.Write(p) // never fails
		_, _ = b.Write(q)
		return
	}
	x, xRest := a.split(p)
	y, yRest := b.split(q)
	for {
		if len(x) == 0 {
			x, xRest = xRest, nil
		}
		if len(y) == 0 {
			y, yRest = yRest, nil
		}
		if len(x) == 0 || len(y) == 0 {
			break
		}
		n := hashTwo(&a.state, &b.state, x, y)
		x, y = x[n:], y[n:]
	}
	hashOne(&a.state, x)
	hashOne(&a.state, xRest)
	hashOne(&b.state, y)
	hashOne(&b.state, yRest)
}

// hashOne advances s over the blocks of p.
func hashOne(s *state, p []byte) {
	if n := len(p) / blockSize; n > 0 {
		block1(s, &p[0], n)
	}
}

// hashTwo advances a over p and b over q, as far as both have whole blocks, and
// returns how many bytes of each that were.
func hashTwo(a, b *state, p, q []byte) int {
	n := min(len(p), len(q)) / blockSize
	if n > 0 {
		block2(a, b, &p[0], &q[0], n)
	}
	return n * blockSize
}
