# modules: ec-verify
# refused: services.every-channel.ec-verify.onCalendar: "2020-02-29" is past
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
    onCalendar = "2020-02-29";
  };
}
