# modules: ec-netboot
# fails: or else services.every-channel.netboot.release.source, which takes the place of both
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
      source = [ "/srv/releases" ];
      repo = "every-channel/runner";
      keys = [
        {
          name = "ci-2026";
          file = "/etc/ci-2026.pub";
        }
      ];
    };
  };
}
