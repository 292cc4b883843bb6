# modules: ec-verify
# The units may write to what the settings name.
{ config, ec-verify, ... }:
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
    settings.metrics.file = "/srv/metrics/ec-verify.prom";
    settings.report.dir = "/srv/reports";
  };
  assertions = [
    {
      assertion =
        config.systemd.services.ec-verify.serviceConfig.ReadWritePaths == [
          "/srv/metrics"
          "/srv/reports"
        ];
      message = "ec-verify.service cannot write what the settings name";
    }
  ];
}
