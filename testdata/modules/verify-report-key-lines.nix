# modules: ec-verify
# fails: services.every-channel.ec-verify.reportKeyFile: systemd takes no path with a space, a control character
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
    reportKeyFile = "/var/lib/secrets/key\nExecStartPre=/bin/true";
  };
}
