# modules: ec-verify
# fails: there is no comin here (services.comin.enable)
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
        file = "/etc/ec-verify/ci.pub";
      }
    ];
    gate.comin.enable = true;
  };
}
