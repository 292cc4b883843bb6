// Package trust decides whether a release is to be believed: it holds a
// [Policy] of keys and identities against the sigstore bundles that come with
// a release's SHA256SUMS.txt. It is the only package that knows sigstore.
//
// [New] makes a release.Verifier of a policy; [UnsafeUnsigned] is the one that
// looks at no signature, and says so in every report.
package trust
