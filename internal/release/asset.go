package release

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/pkg/closure"
)

// Names of the assets that every release has.
const (
	SumsName   = "SHA256SUMS.txt"
	BundleName = "SHA256SUMS.txt.sigstore.json"
	InfoName   = "release.json"
)

// Size limits of the assets, in bytes, by kind.
const (
	MaxSumsSize   = 1 << 20
	MaxBundleSize = 1 << 20
	MaxInfoSize   = 256 << 10
	// MaxListingSize limits the compressed size; closure.MaxListingSize limits the
	// expanded size.
	MaxListingSize = 256 << 20
	// MaxDerivationsSize limits the compressed size.
	MaxDerivationsSize = 256 << 20
	// MaxMachineSize limits the compressed size.
	MaxMachineSize = 8 << 20
	// MaxImageSize limits every other asset.
	MaxImageSize = 16 << 30
)

const (
	closurePrefix  = "closure-"
	manifestSuffix = ".json"
	listingSuffix  = ".files.json.zst"
	// The derivations only explain differences; a machine is not compared with them.
	derivationsSuffix = ".drvs.json.zst"
	machineSuffix     = ".machine.json.zst"
)

// ManifestName returns the asset name of configuration's manifest.
func ManifestName(configuration string) string {
	return closurePrefix + configuration + manifestSuffix
}

// ListingName returns the asset name of configuration's file listing.
func ListingName(configuration string) string {
	return closurePrefix + configuration + listingSuffix
}

// DerivationsName returns the asset name of configuration's derivations, an optional
// asset.
func DerivationsName(configuration string) string {
	return closurePrefix + configuration + derivationsSuffix
}

// MachineName returns the asset name of configuration's machine description: what a
// machine has outside the store. It is an optional asset.
func MachineName(configuration string) string {
	return closurePrefix + configuration + machineSuffix
}

// assetPattern allows only names that need no escaping in a URL, a path, a shell or
// SHA256SUMS.txt. A limit of the length in it would take half a millisecond to compile.
var assetPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_+][A-Za-z0-9._+~,@-]*$`) })

// CheckAssetName returns an error unless name is valid for an asset: 1 to 200
// letters, digits and ". _ - + ~ , @", not beginning with a dot or a dash.
func CheckAssetName(name string) error {
	if len(name) > 200 || !assetPattern().MatchString(name) {
		return fmt.Errorf("asset name %q: want letters, digits, '.', '_', '-', '+', '~', ',' and '@', not beginning with '.' or '-', and no directory", clip(name))
	}
	return nil
}

// AssetLimit returns the size limit, in bytes, of the asset name.
func AssetLimit(name string) int64 {
	switch {
	case name == SumsName:
		return MaxSumsSize
	case name == BundleName:
		return MaxBundleSize
	case name == InfoName:
		return MaxInfoSize
	case name == RevocationsName:
		return MaxRevocationsSize
	case isListing(name):
		return MaxListingSize
	case strings.HasPrefix(name, closurePrefix) && strings.HasSuffix(name, derivationsSuffix):
		return MaxDerivationsSize
	case strings.HasPrefix(name, closurePrefix) && strings.HasSuffix(name, machineSuffix):
		return MaxMachineSize
	case isManifest(name):
		return closure.MaxManifestSize
	}
	return MaxImageSize
}

func isListing(name string) bool {
	return strings.HasPrefix(name, closurePrefix) && strings.HasSuffix(name, listingSuffix)
}

func isManifest(name string) bool {
	return strings.HasPrefix(name, closurePrefix) && strings.HasSuffix(name, manifestSuffix)
}

// configurationOf returns the configuration of the manifest or listing name.
func configurationOf(name string) (string, bool) {
	var c string
	switch {
	case isListing(name):
		c = strings.TrimSuffix(name, listingSuffix)
	case isManifest(name):
		c = strings.TrimSuffix(name, manifestSuffix)
	default:
		return "", false
	}
	c = strings.TrimPrefix(c, closurePrefix)
	return c, closure.CheckConfiguration(c) == nil
}

// A Kind is the kind of an asset, derived from its name.
type Kind uint8

// The kinds of assets. KindImage is every asset without a kind of its own, such as an
// image.
const (
	KindImage Kind = iota
	KindSums
	KindBundle // SHA256SUMS.txt.sigstore.json, and anything else derived from SHA256SUMS.txt
	KindInfo
	KindManifest
	KindListing
	KindDerivations
	KindMachine
)

// KindOf returns the kind of the asset name, and its configuration if it belongs to
// one.
func KindOf(name string) (kind Kind, configuration string) {
	if c, ok := configurationOf(name); ok {
		if isListing(name) {
			return KindListing, c
		}
		// The names closure-x.drvs.json.zst have another suffix and do not match
		// here.
		return KindManifest, c
	}
	for suffix, kind := range map[string]Kind{derivationsSuffix: KindDerivations, machineSuffix: KindMachine} {
		c, ok := strings.CutSuffix(name, suffix)
		if rest, about := strings.CutPrefix(c, closurePrefix); ok && about && closure.CheckConfiguration(rest) == nil {
			return kind, rest
		}
	}
	switch {
	case name == SumsName:
		return KindSums, ""
	case isSumsFile(name):
		return KindBundle, ""
	case name == InfoName:
		return KindInfo, ""
	}
	return KindImage, ""
}
