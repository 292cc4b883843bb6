#include "textflag.h"

// SHA-256 with the SHA2 extension of ARMv8, over one stream and over two.
//
// The eight words of a state lie in two registers, ABCD and EFGH, the first word
// lowest. SHA256H and SHA256H2 make four rounds together, from four words of
// schedule plus constants: the one gives the new ABCD, the other, which needs the
// old ABCD, the new EFGH.
//
// The schedule is kept four words to a register, in four registers that take
// turns. Words 16 to 63 come of those before them:
//
//	W[t] = s1(W[t-2]) + W[t-7] + s0(W[t-15]) + W[t-16]
//
// SHA256SU0 adds the last two terms, SHA256SU1 the others.
//
// block2 is block1 twice, four rounds of one stream after four of the other: the
// processor finds by itself what it can do meanwhile.

// Registers: R2 the constants, R4 the blocks left; V16 to V19 the constants of 16
// rounds. A stream has R0 or R1 for its state, R5 or R6 for its bytes, eight
// registers, and two for the state before the block.

// ROUNDS makes four rounds, with the words in w and the constants in k. It uses
// sum and old.
#define ROUNDS(k, w, abcd, efgh, sum, old) \
	VADD	k.S4, w.S4, sum.S4; \
	VMOV	abcd.B16, old.B16; \
	SHA256H	sum.S4, efgh, abcd; \
	SHA256H2	sum.S4, old, efgh

// EXTEND puts the next four words of the schedule in the place of the oldest, w0.
#define EXTEND(w0, w1, w2, w3) \
	SHA256SU0	w1.S4, w0.S4; \
	SHA256SU1	w3.S4, w2.S4, w0.S4

// LOAD reads the 16 words of a block, which are big-endian.
#define LOAD(from, w0, w1, w2, w3) \
	VLD1.P	64(from), [w0.B16, w1.B16, w2.B16, w3.B16]; \
	VREV32	w0.B16, w0.B16; \
	VREV32	w1.B16, w1.B16; \
	VREV32	w2.B16, w2.B16; \
	VREV32	w3.B16, w3.B16

// CONSTANTS reads those of the next 16 rounds.
#define CONSTANTS VLD1.P	64(R3), [V16.S4, V17.S4, V18.S4, V19.S4]

// func block1(s *state, p *byte, n int)
TEXT ·block1(SB), NOSPLIT, $0-24
	MOVD	s+0(FP), R0
	MOVD	p+8(FP), R5
	MOVD	n+16(FP), R4
	MOVD	$rounds<>(SB), R2
	VLD1	(R0), [V0.S4, V1.S4]

block:
	VMOV	V0.B16, V20.B16
	VMOV	V1.B16, V21.B16
	MOVD	R2, R3
	LOAD(R5, V2, V3, V4, V5)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7)
	ROUNDS(V17, V3, V0, V1, V6, V7)
	ROUNDS(V18, V4, V0, V1, V6, V7)
	ROUNDS(V19, V5, V0, V1, V6, V7)
	VADD	V20.S4, V0.S4, V0.S4
	VADD	V21.S4, V1.S4, V1.S4
	SUB	$1, R4
	CBNZ	R4, block

	VST1	[V0.S4, V1.S4], (R0)
	RET

// func block2(a, b *state, p, q *byte, n int)
TEXT ·block2(SB), NOSPLIT, $0-40
	MOVD	a+0(FP), R0
	MOVD	b+8(FP), R1
	MOVD	p+16(FP), R5
	MOVD	q+24(FP), R6
	MOVD	n+32(FP), R4
	MOVD	$rounds<>(SB), R2
	VLD1	(R0), [V0.S4, V1.S4]
	VLD1	(R1), [V8.S4, V9.S4]

block:
	VMOV	V0.B16, V20.B16
	VMOV	V1.B16, V21.B16
	VMOV	V8.B16, V22.B16
	VMOV	V9.B16, V23.B16
	MOVD	R2, R3
	LOAD(R5, V2, V3, V4, V5)
	LOAD(R6, V10, V11, V12, V13)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V16, V10, V8, V9, V14, V15); EXTEND(V10, V11, V12, V13)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V17, V11, V8, V9, V14, V15); EXTEND(V11, V12, V13, V10)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V18, V12, V8, V9, V14, V15); EXTEND(V12, V13, V10, V11)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	ROUNDS(V19, V13, V8, V9, V14, V15); EXTEND(V13, V10, V11, V12)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V16, V10, V8, V9, V14, V15); EXTEND(V10, V11, V12, V13)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V17, V11, V8, V9, V14, V15); EXTEND(V11, V12, V13, V10)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V18, V12, V8, V9, V14, V15); EXTEND(V12, V13, V10, V11)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	ROUNDS(V19, V13, V8, V9, V14, V15); EXTEND(V13, V10, V11, V12)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7); EXTEND(V2, V3, V4, V5)
	ROUNDS(V16, V10, V8, V9, V14, V15); EXTEND(V10, V11, V12, V13)
	ROUNDS(V17, V3, V0, V1, V6, V7); EXTEND(V3, V4, V5, V2)
	ROUNDS(V17, V11, V8, V9, V14, V15); EXTEND(V11, V12, V13, V10)
	ROUNDS(V18, V4, V0, V1, V6, V7); EXTEND(V4, V5, V2, V3)
	ROUNDS(V18, V12, V8, V9, V14, V15); EXTEND(V12, V13, V10, V11)
	ROUNDS(V19, V5, V0, V1, V6, V7); EXTEND(V5, V2, V3, V4)
	ROUNDS(V19, V13, V8, V9, V14, V15); EXTEND(V13, V10, V11, V12)
	CONSTANTS
	ROUNDS(V16, V2, V0, V1, V6, V7)
	ROUNDS(V16, V10, V8, V9, V14, V15)
	ROUNDS(V17, V3, V0, V1, V6, V7)
	ROUNDS(V17, V11, V8, V9, V14, V15)
	ROUNDS(V18, V4, V0, V1, V6, V7)
	ROUNDS(V18, V12, V8, V9, V14, V15)
	ROUNDS(V19, V5, V0, V1, V6, V7)
	ROUNDS(V19, V13, V8, V9, V14, V15)
	VADD	V20.S4, V0.S4, V0.S4
	VADD	V21.S4, V1.S4, V1.S4
	VADD	V22.S4, V8.S4, V8.S4
	VADD	V23.S4, V9.S4, V9.S4
	SUB	$1, R4
	CBNZ	R4, block

	VST1	[V0.S4, V1.S4], (R0)
	VST1	[V8.S4, V9.S4], (R1)
	RET

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
