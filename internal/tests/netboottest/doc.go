// Package netboottest boots machines from the network as operators do. It has a boot
// host with the units of modules/ec-netboot on a real systemd, a network with a gateway
// that assigns addresses like UniFi's, and machines in qemu, with a BIOS or with UEFI,
// that know only their network card.
//
// ec-verify makes, signs, fetches and stages the releases that they boot. Their kernel is
// Debian's. Most initrds print the name of their release on the serial console and turn
// the machine off. The last one has a complete system, which runs ec-verify; see package
// guest.
//
// hack/test-netboot runs it. The network is in namespaces that end with the test, and the
// boot host is a test host; see package testhost.
package netboottest
