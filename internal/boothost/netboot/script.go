package netboot

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// maxScript limits the script of a bundle in bytes.
const maxScript = 64 << 10

// A Script is the boot information in a bundle's netboot.ipxe.
type Script struct {
	// Params are the kernel's parameters in their order, init= among them.
	Params []string
}

// maxParams limits the kernel's parameters in bytes: Linux accepts 2047 on x86_64 and
// aarch64 (COMMAND_LINE_SIZE); with UEFI, the name of the kernel and initrd= take
// some of them.
const maxParams = 2047 - len("kernel  initrd=initrd")

// paramPattern matches a valid kernel parameter. iPXE would expand a dollar, its
// parser would interpret a quote or a backslash, and its shell "||", "&&" and ";".
var paramPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.,:;=/+@%^~*!?()\[\]<>-]*$`) })

// cmdlineVariable is NixOS's placeholder for parameters that a chaining script may
// add.
const cmdlineVariable = "${cmdline}"

// ParseScript parses the netboot.ipxe of a bundle as NixOS writes it: a kernel line,
// an initrd line, boot, and comments. Everything else is refused, since it would be
// lost in the served script. The parameter ${cmdline} is dropped: only the release
// decides on the parameters.
func ParseScript(data []byte) (Script, error) {
	var s Script
	if len(data) > maxScript {
		return s, fmt.Errorf("it is larger than %d bytes", maxScript)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if strings.TrimRight(first, " \r") != "#!ipxe" {
		return s, errors.New("it does not begin with #!ipxe")
	}
	var seen []string
	number := 1
	for line := range strings.Lines(rest) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		seen = append(seen, words[0])
		var err error
		switch words[0] {
		case "kernel":
			s.Params, err = kernelParams(words[1:])
		case "initrd":
			if len(words) != 2 || words[1] != "initrd" {
				err = errors.New(`want the line "initrd initrd"`)
			}
		case "boot":
			if len(words) != 1 {
				err = errors.New(`want the line "boot", with nothing after it`)
			}
		default:
			err = errors.New("want kernel, initrd and boot")
		}
		if err != nil {
			return Script{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if got := strings.Join(seen, " "); got != "kernel initrd boot" {
		return Script{}, fmt.Errorf("want one line each of kernel, initrd and boot, in this order; got %q", clip(got))
	}
	return s, nil
}

// kernelParams parses the words after "kernel".
func kernelParams(words []string) ([]string, error) {
	if len(words) == 0 || words[0] != "kernel" && words[0] != "bzImage" && words[0] != "Image" {
		return nil, errors.New("want kernel kernel and the parameters")
	}
	var params []string
	inits, initrds := 0, 0
	for _, w := range words[1:] {
		if w == cmdlineVariable {
			continue
		}
		if !paramPattern().MatchString(w) {
			return nil, fmt.Errorf("kernel parameter %q cannot be in a script", clip(w))
		}
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "init":
			inits++
		case "initrd":
			initrds++
			if value != "initrd" {
				return nil, fmt.Errorf("kernel parameter %q: want initrd=initrd", clip(w))
			}
		}
		params = append(params, w)
	}
	if n := len(strings.Join(params, " ")); n > maxParams {
		return nil, fmt.Errorf("the kernel parameters have %d bytes; Linux would lose those behind the first %d", n, maxParams)
	}
	if inits != 1 {
		return nil, fmt.Errorf("%d kernel parameters init=, want one: it says which system is booted", inits)
	}
	if initrds == 0 {
		// A kernel started by UEFI finds its initrd only by this.
		params = append(params, "initrd=initrd")
	}
	return params, nil
}

// Init returns the program that the kernel starts.
func (s Script) Init() string {
	for _, p := range s.Params {
		if init, ok := strings.CutPrefix(p, "init="); ok {
			return init
		}
	}
	return ""
}

// Encode returns the script that boots the release tag from the stage name below
// base. The token in its URLs is iPXE's variable ec-token, set by the script that
// chains to it; see [ChainScript].
func (s Script) Encode(base BaseURL, tag release.Tag, name string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `#!ipxe
# Release %[1]s, verified before it was put here.
isset ${ec-token} || goto unset
set ec-stage %[2]s/${ec-token}/%[3]s
echo every.channel: booting release %[1]s
imgfree
kernel ${ec-stage}/kernel %[4]s || goto failed
initrd --name initrd ${ec-stage}/initrd || goto failed
boot || goto failed
:unset
echo every.channel: ec-token is not set; chain to chain.ipxe by TFTP, not here
exit 1
:failed
echo every.channel: release %[1]s did not boot
imgfree
exit 1
`, tag, base, name, strings.Join(s.Params, " "))
	return b.Bytes()
}

// ChainScript returns the script that iPXE reads by TFTP once it has an address: it
// sets the token and continues by HTTP. It tries a few times, while a switch or a
// boot host starts, and then returns to the firmware, which has other boot entries;
// it never restarts from DHCP.
func ChainScript(base BaseURL, token ChainToken) []byte {
	return fmt.Appendf(nil, `#!ipxe
set ec-token %[2]s
set ec-try:int32 0
:again
inc ec-try
echo every.channel: boot host %[1]s, attempt ${ec-try} of 5
chain --autofree %[1]s/${ec-token}/netboot.ipxe ||
iseq ${ec-try} 5 && goto failed ||
sleep 5
goto again
:failed
echo every.channel: nothing to boot from %[1]s; leaving it to the firmware
exit 1
`, base, token)
}

// A BaseURL is the address of the boot host for machines, such as "http://10.0.0.2"
// or "http://boot.example.org:8080"; it has no path. Use [ParseBaseURL] to create
// one.
type BaseURL string

// hostPattern matches a valid host name; a name of digits and dots alone must be an
// address.
var (
	hostPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	})
	digitsPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9.]+$`) })
)

// ParseBaseURL checks that s is a valid URL of a boot host: http, since iPXE has no
// trusted certificates and nothing secret is served, and without a path.
func ParseBaseURL(s string) (BaseURL, error) {
	want := fmt.Errorf("boot host %q: want http://ADDRESS or http://ADDRESS:PORT and nothing more", clip(s))
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || s != "http://"+u.Host || u.User != nil {
		return "", want
	}
	host, port := u.Hostname(), u.Port()
	if net.ParseIP(host) == nil && (len(host) > 253 || !hostPattern().MatchString(host) || digitsPattern().MatchString(host)) {
		return "", want
	}
	if port == "" && strings.HasSuffix(u.Host, ":") {
		return "", want
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0 || port[0] == '0') {
		return "", want
	}
	return BaseURL(s), nil
}

func clip(s string) string { return excerpt.Of(s, 120) }
