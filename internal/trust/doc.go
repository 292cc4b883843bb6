// Package trust decides whether a release is trusted: it checks the sigstore bundles
// of a release's SHA256SUMS.txt against a [Policy] of keys and identities. It is the
// only package that uses sigstore.
//
// [New] returns a release.Verifier for a policy; [UnsafeUnsigned] returns one that
// checks no signature, which every report states.
package trust
