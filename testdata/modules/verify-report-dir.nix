# modules: ec-verify
# fails: the directories of metrics.file and report.dir (/srv/all reports)
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
    settings.report.dir = "/srv/all reports";
  };
}
