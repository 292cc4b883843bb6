# modules: ec-netboot
# fails: services.nginx listens on port 80 of 10.0.0.2 too, for b.example.org: give
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
    virtualHosts."b.example.org" = {
      forceSSL = true;
      sslCertificate = "/var/lib/tls/cert.pem";
      sslCertificateKey = "/var/lib/tls/key.pem";
    };
  };
}
