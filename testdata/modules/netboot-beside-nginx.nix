# modules: ec-netboot
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
    defaultListenAddresses = [
      "10.0.0.3"
      "[::]"
    ];
    virtualHosts."a.example.org" = { };
    virtualHosts."b.example.org" = {
      onlySSL = true;
      sslCertificate = "/var/lib/tls/cert.pem";
      sslCertificateKey = "/var/lib/tls/key.pem";
    };
    virtualHosts."c.example.org".listen = [
      {
        addr = "0.0.0.0";
        port = 8080;
      }
    ];
  };
}
