# modules: ec-netboot
{ ec-verify, ... }:
{
  services.every-channel.netboot = {
    enable = true;
    package = ec-verify;
    listenIP = "10.0.0.2";
    interface = "enp1s0";
    httpAllowedCIDRs = [ "10.0.0.0/24" ];
    chainTokenFile = "/var/lib/secrets/100%.token";
    release = {
      host = "forge.example.org";
      repo = "every-channel/runner";
      tag = "boot-v2026.02.28";
      tarball = "ec-runner-x86_64-netboot-*.tar.gz";
      tokenFile = "/var/lib/secrets/50%n.token";
      refresh = null;
      keys = [
        {
          name = "ci-2026";
          file = "/etc/ci-2026.pub";
        }
      ];
    };
    hostname = "boot.example.org";
    tftpBootFilename = "boot.efi";
    proxyDhcp = {
      enable = true;
      subnet = "10.0.0.0/24";
    };
    ipxe.efiFile = "/srv/ipxe/ipxe.efi";
    ipxe.biosFile = "/srv/ipxe/undionly.kpxe";
  };
}
