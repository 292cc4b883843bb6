# modules: ec-netboot
# fails: services.every-channel.netboot.chainTokenFile must not be in the store
{ ec-verify, ... }:
{
  services.every-channel.netboot = {
    enable = true;
    package = ec-verify;
    listenIP = "10.0.0.2";
    interface = "enp1s0";
    httpAllowedCIDRs = [ "10.0.0.0/24" ];
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
    chainTokenFile = /. + "/var/lib/secrets/token";
  };
}
