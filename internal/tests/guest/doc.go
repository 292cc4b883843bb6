// Package guest gives tests virtual machines that they can talk with, the Debian that
// these run, and what makes of a Debian, as far as ec-verify looks, a machine of a
// release. Nothing but tests may import it.
//
// hack/test-boot makes the Debian, its kernel, and a stage 1 of systemd, once; the tests
// find them in EC_VERIFY_BOOT_DIR. All that is here has the build tag qemu.
package guest
