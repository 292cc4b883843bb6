# What the boot host's servers are configured with, as pure functions of
# builtins alone: hack/test-netboot renders them without nixpkgs and boots
# machines from them.
{
  dnsmasqConf = import ./dnsmasq.nix;
  nginxConf = import ./nginx.nix;
  bootScript = import ./ipxe.nix;
  units = import ./units.nix;
  paths = import ./paths.nix;
  # What machines with UEFI say of themselves in DHCP's option 93, by the name of
  # their processor: RFC 4578, which some firmware reads to mean 9, and IANA's
  # registry of processor architecture types.
  efiArchitectures = {
    x86_64 = [
      7
      9
    ];
    aarch64 = [ 11 ];
  };
  address = import ./address.nix;
}
