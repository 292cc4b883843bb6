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

// What an asset may take, in bytes, by its kind.
const (
	MaxSumsSize   = 1 << 20
	MaxBundleSize = 1 << 20
	MaxInfoSize   = 256 << 10
	// MaxListingSize is for the compressed form; closure.MaxListingSize bounds
	// what it expands to.
	MaxListingSize = 256 << 20
	// MaxDerivationsSize is for the compressed form as well.
	MaxDerivationsSize = 256 << 20
	// MaxMachineSize is for the compressed form as well.
	MaxMachineSize = 8 << 20
	// MaxImageSize is for everything else.
	MaxImageSize = 16 << 30
)

const (
	closurePrefix  = "closure-"
	manifestSuffix = ".json"
	listingSuffix  = ".files.json.zst"
	// The derivations are no part of what a machine is compared with; they
	// explain.
	derivationsSuffix = ".drvs.json.zst"
	machineSuffix     = ".machine.json.zst"
)

// ManifestName is the asset that holds the manifest of configuration.
func ManifestName(configuration string) string {
	return closurePrefix + configuration + manifestSuffix
}

// ListingName is the asset that holds the file listing of configuration.
func ListingName(configuration string) string {
	return closurePrefix + configuration + listingSuffix
}

// DerivationsName is the asset that holds the derivations of configuration. A
// release need not have it.
func DerivationsName(configuration string) string {
	return closurePrefix + configuration + derivationsSuffix
}

// MachineName is the asset that says what a machine of configuration looks like
// beside its store. A release need not have it.
func MachineName(configuration string) string {
	return closurePrefix + configuration + machineSuffix
}

// assetPattern allows what a URL, a path, a shell and the format of
// SHA256SUMS.txt can all take unescaped.
var assetPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_+][A-Za-z0-9._+~,@-]{0,199}$`) })

// CheckAssetName reports whether name can be the name of an asset: 1 to 200
// letters, digits and ". _ - + ~ , @", not beginning with a dot or a dash.
func CheckAssetName(name string) error {
	if !assetPattern().MatchString(name) {
		return fmt.Errorf("asset name %q: want letters, digits, '.', '_', '-', '+', '~', ',' and '@', not beginning with '.' or '-', and no directory", clip(name))
	}
	return nil
}

// AssetLimit returns how large, in bytes, the asset of that name may be.
func AssetLimit(name string) int64 {
	switch {
	case name == SumsName:
		return MaxSumsSize
	case name == BundleName:
		return MaxBundleSize
	case name == InfoName:
		return MaxInfoSize
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

// configurationOf returns the configuration whose manifest or listing name is.
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

// A Kind says what an asset is, by its name.
type Kind uint8

// The kinds of assets. KindImage is everything that has no form of its own:
// images, and whatever else is published.
const (
	KindImage Kind = iota
	KindSums
	KindBundle // SHA256SUMS.txt.sigstore.json, and all else that is made from SHA256SUMS.txt
	KindInfo
	KindManifest
	KindListing
	KindDerivations
	KindMachine
)

// KindOf returns what the asset of that name is, and the configuration that it
// is about, where it is about one.
func KindOf(name string) (kind Kind, configuration string) {
	if c, ok := configurationOf(name); ok {
		if isListing(name) {
			return KindListing, c
		}
		// closure-x.drvs.json.zst ends otherwise.
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
