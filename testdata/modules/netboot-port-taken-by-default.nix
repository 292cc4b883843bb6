# modules: ec-netboot
# fails: services.nginx listens on port 80 of 10.0.0.2 too, for a.example.org: give
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
  };

  services.nginx = {
    enable = true;
    # It wins over what a host says of its addresses.
    defaultListen = [ { addr = "0.0.0.0"; } ];
    virtualHosts."a.example.org".listenAddresses = [ "127.0.0.1" ];
  };
}
