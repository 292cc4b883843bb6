#include "textflag.h"

// SHA-256 with the SHA extensions of x86, over one stream and over two.
//
// The eight words of a state lie in two registers, as SHA256RNDS2 wants them, the
// highest word first: ABEF and CDGH. One SHA256RNDS2 makes two rounds, from two
// words of schedule plus constants in X0: the new ABEF takes the place of CDGH,
// and the old ABEF is the new CDGH. So a state changes its registers with each,
// and is back after four rounds.
//
// The schedule is kept four words to a register, in four registers that take
// turns. Words 16 to 63 come of those before them:
//
//	W[t] = s1(W[t-2]) + W[t-7] + s0(W[t-15]) + W[t-16]
//
// SHA256MSG1 adds the last two terms, PALIGNR brings W[t-7] together from two
// registers, and SHA256MSG2 adds the first, which within four words depends on
// itself.
//
// block2 is block1 twice, four rounds of one stream after four of the other: the
// processor finds by itself what it can do meanwhile.

// Registers: AX the constants, CX the blocks left; X0 the operand that SHA256RNDS2
// does not name, X13 for the moment, X14 the order of bytes. A stream has SI or
// DI for its bytes, R8 or R9 for its state, and six registers.
#define S0 X1
#define S1 X2
#define A0 X3
#define A1 X4
#define A2 X5
#define A3 X6

#define T0 X7
#define T1 X8
#define B0 X9
#define B1 X10
#define B2 X11
#define B3 X12

// LOADSTATE and STORESTATE turn A, B, C, D and E, F, G, H in memory, the first
// word lowest, into ABEF and CDGH, and back.
#define LOADSTATE(from, abef, cdgh) \
	MOVOU	0(from), abef; \
	MOVOU	16(from), cdgh; \
	PSHUFD	$0xb1, abef, abef; \
	PSHUFD	$0x1b, cdgh, cdgh; \
	MOVO	abef, X13; \
	PALIGNR	$8, cdgh, abef; \
	PBLENDW	$0xf0, X13, cdgh

#define STORESTATE(to, abef, cdgh) \
	PSHUFD	$0x1b, abef, abef; \
	PSHUFD	$0xb1, cdgh, cdgh; \
	MOVO	abef, X13; \
	PBLENDW	$0xf0, cdgh, abef; \
	PALIGNR	$8, X13, cdgh; \
	MOVOU	abef, 0(to); \
	MOVOU	cdgh, 16(to)

// LOAD reads four words of a block, which are big-endian.
#define LOAD(from, quad, w) \
	MOVOU	(16*quad)(from), w; \
	PSHUFB	X14, w

// ROUNDS makes four rounds, with the words in w.
#define ROUNDS(quad, w, abef, cdgh) \
	MOVOU	(16*quad)(AX), X0; \
	PADDD	w, X0; \
	SHA256RNDS2	X0, abef, cdgh; \
	PSHUFD	$0x0e, X0, X0; \
	SHA256RNDS2	X0, cdgh, abef

// BEGIN puts s0(W[t-15]) + W[t-16] in the place of the oldest words, in w; next
// follow w.
#define BEGIN(w, next) SHA256MSG1	next, w

// EXTEND makes four new words of those that BEGIN left in w, from the last eight.
#define EXTEND(w, last, lastButOne) \
	MOVO	last, X13; \
	PALIGNR	$4, lastButOne, X13; \
	PADDD	X13, w; \
	SHA256MSG2	last, w

// FIRST, MIDDLE and LATE are four rounds each, with what of the schedule is due
// beside them. The four registers of the schedule are w0 to w3 by age, from the
// oldest words: w3 has those of these rounds, and w0 is made ready for the next.
#define FIRST(from, quad, w3, abef, cdgh) \
	LOAD(from, quad, w3); \
	ROUNDS(quad, w3, abef, cdgh)

#define MIDDLE(quad, w0, w2, w3, abef, cdgh) \
	ROUNDS(quad, w3, abef, cdgh); \
	EXTEND(w0, w3, w2); \
	BEGIN(w2, w3)

#define LATE(quad, w0, w2, w3, abef, cdgh) \
	ROUNDS(quad, w3, abef, cdgh); \
	EXTEND(w0, w3, w2)

// func block1(s *state, p *byte, n int)
TEXT ·block1(SB), NOSPLIT, $32-24
	MOVQ	s+0(FP), R8
	MOVQ	p+8(FP), SI
	MOVQ	n+16(FP), CX
	LEAQ	rounds<>(SB), AX
	MOVOU	bytes<>(SB), X14
	LOADSTATE(R8, S0, S1)

block:
	MOVOU	S0, 0(SP)
	MOVOU	S1, 16(SP)
	FIRST(SI, 0, A0, S0, S1)
	FIRST(SI, 1, A1, S0, S1); BEGIN(A0, A1)
	FIRST(SI, 2, A2, S0, S1); BEGIN(A1, A2)
	LOAD(SI, 3, A3); MIDDLE(3, A0, A2, A3, S0, S1)
	MIDDLE(4, A1, A3, A0, S0, S1)
	MIDDLE(5, A2, A0, A1, S0, S1)
	MIDDLE(6, A3, A1, A2, S0, S1)
	MIDDLE(7, A0, A2, A3, S0, S1)
	MIDDLE(8, A1, A3, A0, S0, S1)
	MIDDLE(9, A2, A0, A1, S0, S1)
	MIDDLE(10, A3, A1, A2, S0, S1)
	MIDDLE(11, A0, A2, A3, S0, S1)
	MIDDLE(12, A1, A3, A0, S0, S1)
	LATE(13, A2, A0, A1, S0, S1)
	LATE(14, A3, A1, A2, S0, S1)
	ROUNDS(15, A3, S0, S1)
	MOVOU	0(SP), X13
	PADDD	X13, S0
	MOVOU	16(SP), X13
	PADDD	X13, S1
	ADDQ	$64, SI
	DECQ	CX
	JNZ	block

	STORESTATE(R8, S0, S1)
	RET

// func block2(a, b *state, p, q *byte, n int)
TEXT ·block2(SB), NOSPLIT, $64-40
	MOVQ	a+0(FP), R8
	MOVQ	b+8(FP), R9
	MOVQ	p+16(FP), SI
	MOVQ	q+24(FP), DI
	MOVQ	n+32(FP), CX
	LEAQ	rounds<>(SB), AX
	MOVOU	bytes<>(SB), X14
	LOADSTATE(R8, S0, S1)
	LOADSTATE(R9, T0, T1)

block:
	MOVOU	S0, 0(SP)
	MOVOU	S1, 16(SP)
	MOVOU	T0, 32(SP)
	MOVOU	T1, 48(SP)
	FIRST(SI, 0, A0, S0, S1)
	FIRST(DI, 0, B0, T0, T1)
	FIRST(SI, 1, A1, S0, S1); BEGIN(A0, A1)
	FIRST(DI, 1, B1, T0, T1); BEGIN(B0, B1)
	FIRST(SI, 2, A2, S0, S1); BEGIN(A1, A2)
	FIRST(DI, 2, B2, T0, T1); BEGIN(B1, B2)
	LOAD(SI, 3, A3); MIDDLE(3, A0, A2, A3, S0, S1)
	LOAD(DI, 3, B3); MIDDLE(3, B0, B2, B3, T0, T1)
	MIDDLE(4, A1, A3, A0, S0, S1)
	MIDDLE(4, B1, B3, B0, T0, T1)
	MIDDLE(5, A2, A0, A1, S0, S1)
	MIDDLE(5, B2, B0, B1, T0, T1)
	MIDDLE(6, A3, A1, A2, S0, S1)
	MIDDLE(6, B3, B1, B2, T0, T1)
	MIDDLE(7, A0, A2, A3, S0, S1)
	MIDDLE(7, B0, B2, B3, T0, T1)
	MIDDLE(8, A1, A3, A0, S0, S1)
	MIDDLE(8, B1, B3, B0, T0, T1)
	MIDDLE(9, A2, A0, A1, S0, S1)
	MIDDLE(9, B2, B0, B1, T0, T1)
	MIDDLE(10, A3, A1, A2, S0, S1)
	MIDDLE(10, B3, B1, B2, T0, T1)
	MIDDLE(11, A0, A2, A3, S0, S1)
	MIDDLE(11, B0, B2, B3, T0, T1)
	MIDDLE(12, A1, A3, A0, S0, S1)
	MIDDLE(12, B1, B3, B0, T0, T1)
	LATE(13, A2, A0, A1, S0, S1)
	LATE(13, B2, B0, B1, T0, T1)
	LATE(14, A3, A1, A2, S0, S1)
	LATE(14, B3, B1, B2, T0, T1)
	ROUNDS(15, A3, S0, S1)
	ROUNDS(15, B3, T0, T1)
	MOVOU	0(SP), X13
	PADDD	X13, S0
	MOVOU	16(SP), X13
	PADDD	X13, S1
	MOVOU	32(SP), X13
	PADDD	X13, T0
	MOVOU	48(SP), X13
	PADDD	X13, T1
	ADDQ	$64, SI
	ADDQ	$64, DI
	DECQ	CX
	JNZ	block

	STORESTATE(R8, S0, S1)
	STORESTATE(R9, T0, T1)
	RET

// func cpuid(leaf, subleaf uint32) (eax, ebx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-16
	MOVL	leaf+0(FP), AX
	MOVL	subleaf+4(FP), CX
	CPUID
	MOVL	AX, eax+8(FP)
	MOVL	BX, ebx+12(FP)
	RET

// What PSHUFB makes little-endian words of big-endian ones with.
DATA bytes<>+0(SB)/8, $0x0405060700010203
DATA bytes<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL bytes<>(SB), RODATA|NOPTR, $16

// The constants of the 64 rounds (FIPS 180-4, 4.2.2), two to a line.
DATA rounds<>+0(SB)/8, $0x71374491428a2f98
DATA rounds<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA rounds<>+16(SB)/8, $0x59f111f13956c25b
DATA rounds<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA rounds<>+32(SB)/8, $0x12835b01d807aa98
DATA rounds<>+40(SB)/8, $0x550c7dc3243185be
DATA rounds<>+48(SB)/8, $0x80deb1fe72be5d74
DATA rounds<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA rounds<>+64(SB)/8, $0xefbe4786e49b69c1
DATA rounds<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA rounds<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA rounds<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA rounds<>+96(SB)/8, $0xa831c66d983e5152
DATA rounds<>+104(SB)/8, $0xbf597fc7b00327c8
DATA rounds<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA rounds<>+120(SB)/8, $0x1429296706ca6351
DATA rounds<>+128(SB)/8, $0x2e1b213827b70a85
DATA rounds<>+136(SB)/8, $0x53380d134d2c6dfc
DATA rounds<>+144(SB)/8, $0x766a0abb650a7354
DATA rounds<>+152(SB)/8, $0x92722c8581c2c92e
DATA rounds<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA rounds<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA rounds<>+176(SB)/8, $0xd6990624d192e819
DATA rounds<>+184(SB)/8, $0x106aa070f40e3585
DATA rounds<>+192(SB)/8, $0x1e376c0819a4c116
DATA rounds<>+200(SB)/8, $0x34b0bcb52748774c
DATA rounds<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA rounds<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA rounds<>+224(SB)/8, $0x78a5636f748f82ee
DATA rounds<>+232(SB)/8, $0x8cc7020884c87814
DATA rounds<>+240(SB)/8, $0xa4506ceb90befffa
DATA rounds<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL rounds<>(SB), RODATA|NOPTR, $256
