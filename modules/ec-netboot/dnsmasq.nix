# dnsmasq's configuration: TFTP, and ProxyDHCP where it is asked for. The names
# are those of dnsmasq(8).
{
  interface,
  listenIP,
  # The directory that is served.
  tftpRoot,
  pidFile,
  # Where machines hear of the boot host by ProxyDHCP: the network, such as
  # "10.0.0.0/24", and what each kind of firmware loads: bios (null for nothing)
  # and efi, which is of the architectures in efiArchitectures. null where the
  # network's own DHCP tells them.
  proxyDhcp ? null,
}:
let
  address = import ./address.nix;

  services =
    {
      bios,
      efi,
      efiArchitectures,
      ...
    }:
    map (file: "pxe-service=tag:!ipxe,${file}") (
      (if bios == null then [ ] else [ "0,every.channel,${bios}" ])
      ++ map (a: "${toString a},every.channel,${efi}") efiArchitectures
    );

  lines = [
    # No DNS.
    "port=0"
    "no-resolv"
    "no-hosts"
    "except-interface=lo"
    "listen-address=${listenIP}"
    # Elsewhere others may serve.
    "bind-interfaces"
    "keep-in-foreground"
    "pid-file=${pidFile}"
    "log-facility=-"
    "log-dhcp"
    "enable-tftp=${interface}"
    "tftp-root=${tftpRoot}"
  ]
  ++ (
    if proxyDhcp == null then
      [ ]
    else
      [
        # Without it, port 67 would be taken on all cards. With it, TFTP answers at
        # all addresses of this one.
        "interface=${interface}"
        # Addresses are somebody else's affair.
        "dhcp-range=${address.network proxyDhcp.subnet},proxy,${address.netmask proxyDhcp.subnet}"
        "no-ping"
        # No file of leases: a proxy gives none.
        "leasefile-ro"
        "dhcp-no-override"
        # iPXE says so in option 175, and is not told to load iPXE again.
        "dhcp-match=set:ipxe,175"
        "dhcp-boot=tag:ipxe,chain.ipxe,,${listenIP}"
      ]
      ++ services proxyDhcp
  );
in
builtins.concatStringsSep "\n" lines + "\n"
