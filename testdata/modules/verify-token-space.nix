# modules: ec-verify
# fails: services.every-channel.ec-verify.tokenFile: systemd takes no path with a space
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
    tokenFile = "/var/lib/my secrets/token";
  };
}
