// Package sha256pair computes two SHA-256 hashes at once in one goroutine.
//
// The processor's own instructions for SHA-256 wait for one another: each takes
// the result of the one before, and several cycles. A second hash of other bytes
// needs nothing of the first, and its instructions run while those of the first
// wait. So two hashes take little longer than one. A third would gain nothing:
// then the instructions are as many as the processor can start.
//
// There are two ways to have two hashes. Whoever has both streams at hand calls
// [WriteBoth]. Whoever has two pieces of work, each of which hashes as it goes,
// gives them to [Together], which lets them take turns and hashes what they write
// in pairs.
//
// On a processor without these instructions, or where they are turned off
// (GODEBUG=cpu.sha=off, cpu.sha2=off on arm64), and where the FIPS 140-3 module
// has to be used (GODEBUG=fips140=on), all hashes are those of [crypto/sha256];
// see [Available]. The results are the same everywhere. Nothing here depends on
// the bytes that are hashed, only on how many they are.
package sha256pair
