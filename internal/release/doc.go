// Package release finds a published release, has its signature verified, and returns
// its contents. All comparisons obtain release data through this package.
//
// # What a release is
//
// A release is a flat set of files, its assets, named by a [Tag]:
//
//	SHA256SUMS.txt                       sha256sum's format, over every other asset ([Sums])
//	SHA256SUMS.txt.sigstore.json         the signature: sigstore bundles over SHA256SUMS.txt
//	release.json                         tag, commit, times, configurations ([Info])
//	closure-<configuration>.json         the closure manifest of one configuration
//	closure-<configuration>.files.json.zst   the files of its store paths
//	closure-<configuration>.machine.json.zst what such a machine has outside the store
//	…                                    images and whatever else is published
//
// One signature covers everything: it is over SHA256SUMS.txt, and every other asset
// is checked against its line there before any of it is interpreted.
//
// # How one is used
//
// A [Source] is a place that has releases: a directory, a forge, the local [Cache].
// [Open] reads SHA256SUMS.txt and its bundle from a source, asks a [Verifier]
// (implemented by package trust) whether they are trusted, reads release.json, and
// applies the rules on identity, freshness and order. The returned *[Release] proves
// that all of this was done; [Release.Manifest], [Release.Files] and [Release.Asset]
// only return bytes with the digest in SHA256SUMS.txt. A [Finder] does all of it for
// a configured node: it looks in the cache first, then in its sources in order.
//
// # How it fails
//
// A release that exists and is not trusted is an *[UntrustedError]. One that does not
// exist is a *[NotFoundError]. One that could not be fetched is an
// *[UnavailableError]. If the node's clock is plainly wrong, freshness can't be
// judged and the error is a *[ClockError]. The last three mean that the release could
// not be checked; they are not findings against it.
//
// The package never logs. It writes only to the state directory ([Cache], [Memory])
// and to the directories given to [WriteSums], [WriteInfo] and [Release.CopyTo].
package release
