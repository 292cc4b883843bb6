# modules: ec-verify
# refused: trust.keys[0]: key "ci": no public key in PEM
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings.release.source = [ "/srv/releases" ];
    settings.release.accept = [ "boot-v2026.02.28" ];
    settings.trust.keys = [
      {
        name = "ci";
        file = ./README.md;
      }
    ];
  };
}
