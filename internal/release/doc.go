// Package release finds a published release, has its signature checked, and
// hands out what it says: nothing of a release reaches a comparison any other
// way.
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
//	closure-<configuration>.machine.json.zst what a machine of it looks like beside its store
//	…                                    images and whatever else is published
//
// One signature covers everything: it is over SHA256SUMS.txt, and every other
// asset is checked against its line there before a byte of it is interpreted.
//
// # How one is used
//
// A [Source] is a place that releases come from: a directory, a forge, the
// local [Cache]. [Open] reads SHA256SUMS.txt and its bundle from a source, asks
// a [Verifier] (package trust implements it) whether to believe them, reads
// release.json and holds it to the rules on identity, freshness and order.
// The *[Release] that it returns is the proof that all of this was done;
// [Release.Manifest], [Release.Files] and [Release.Asset] only ever give
// bytes that SHA256SUMS.txt vouches for. A [Finder] does all of it for a
// configured node: the cache first, then its sources in order.
//
// # How it fails
//
// A release that is there and is not believed is an *[UntrustedError]. One that
// is not there is a *[NotFoundError], one that could not be fetched an
// *[UnavailableError], and where the node's clock is plainly wrong, so that
// nothing can be said about freshness, the error is a *[ClockError]. The last
// three mean that the release could not be checked, which is no finding
// against it.
//
// The package never logs, and only writes where it is told to: in the state
// directory ([Cache], [Memory]) and in the directories given to [WriteSums],
// [WriteInfo] and [Release.CopyTo].
package release
