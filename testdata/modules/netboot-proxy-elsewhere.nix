# modules: ec-netboot
# fails: is not in services.every-channel.netboot.proxyDhcp.subnet (10.0.1.0/24)
{ ec-verify, ... }:
{
  services.every-channel.netboot = {
    enable = true;
    package = ec-verify;
    listenIP = "10.0.0.2";
    interface = "enp1s0";
    httpAllowedCIDRs = [ "10.0.0.0/24" ];
    chainTokenFile = "/var/lib/secrets/chain-token";
    release = {
      host = "forge.example.org";
      repo = "every-channel/runner";
      keys = [
        {
          name = "ci-2026";
          file = "/etc/ci-2026.pub";
        }
      ];
    };
    proxyDhcp = {
      enable = true;
      subnet = "10.0.1.0/24";
    };
  };
}
