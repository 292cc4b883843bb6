# modules: ec-verify
# fails: services.every-channel.ec-verify.settings.stateDir must stay /var/lib/ec-verify
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
    settings.stateDir = "/srv/ec-verify";
  };
}
