package verify

import (
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/pkg/closure"
)

// hostParams are the parameters that firmwares and hypervisors are known to add to those of
// the system when they start a kernel without a boot menu. They describe the console, the
// behaviour at a reboot or a panic, and the hardware. None of them changes which programs
// run or which files these use.
var hostParams = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:` + strings.Join([]string{
		// From nixos-rebuild build-vm for QEMU; from microvm.nix for QEMU, Firecracker,
		// cloud-hypervisor and crosvm; from the documentation of Firecracker.
		`console=(?:hvc|tty|ttyS|ttyAMA)[0-9]{1,2}(?:,[0-9]{1,7}(?:n8)?)?`, `earlyprintk=ttyS0`,
		`reboot=[ktw]`, `panic=(?:1|-1)`, `pci=off`, `noapic`, `acpi=off`, `verbose`, `nomodules`,
		`i8042\.(?:noaux|nomux|nopnp|dumbkbd)`, `8250\.nr_uarts=[0-9]{1,2}`, `tsc=reliable`,
		`virtio_mmio\.device=[0-9]{1,4}[KM]?@0x[0-9a-f]{1,16}:[0-9]{1,4}`,
		// From the firmware of a Raspberry Pi, and from its device trees.
		`coherent_pool=[0-9]{1,3}[KM]`, `snd_bcm2835\.enable_(?:compat_alsa|hdmi|headphones)=[01]`,
		`bcm270[89]_fb\.fb(?:width|height|depth|swap)=[0-9]{1,5}`, `smsc95xx\.macaddr=[0-9A-Fa-f:]{17}`,
		`vc_mem\.mem_(?:base|size)=0x[0-9a-f]{1,16}`, `bcm270[89]\.(?:boardrev|serial|uart_clock)=0x[0-9a-f]{1,16}`,
		`dma\.dmachans=0x[0-9a-f]{1,8}`, `video=HDMI-A-[12]:[0-9]{1,5}x[0-9]{1,5}M?@[0-9]{1,3}D?`,
		`pci=pcie_bus_safe`, `cgroup_disable=memory`, `(?:iommu_dma_)?numa_policy=interleave`, `numa=fake=[0-9]`,
		`system_heap\.max_order=0`, `nvme\.max_host_mem_size_mb=0`,
	}, "|") + `)$`)
})

// isByHost reports whether a parameter is one of [hostParams], or the regInfo= of
// nixos-rebuild build-vm: a list of paths that the virtual machine registers, and the
// contents tier compares with the manifest.
func isByHost(system closure.StorePath, parameter string) bool {
	if list, ok := strings.CutPrefix(parameter, "regInfo="); ok {
		p, rest, err := system.Dir().Within(list)
		return err == nil && rest == "/registration" && p.Name() == "closure-info" && isOneWord(parameter)
	}
	return hostParams().MatchString(parameter)
}
