// Package netboottest boots machines from the network as operators will: a boot
// host with the units of modules/ec-netboot on a real systemd, a network with a
// gateway that gives addresses as UniFi's does, and machines in qemu, with a
// BIOS or with UEFI, that know nothing but their network card.
//
// The releases that they boot are made, signed, fetched and staged by ec-verify.
// Their kernel is Debian's; the initrd of most says on the serial console which release
// it is of, and turns the machine off. That of the last one has all of a system, on which
// ec-verify is run; see package guest.
//
// hack/test-netboot runs it. All of the network lives in namespaces that end
// with the test, and the boot host is a test host; see package testhost.
package netboottest
