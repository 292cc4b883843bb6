# modules: ec-verify
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings = {
      configuration = "ec-runner-x86_64";
      workers = 2;
      release = {
        source = [
          "/srv/releases"
          "https://forge.example.org/every-channel/runner/releases/download"
        ];
        accept = [ "latest" ];
        grace = "72h";
      };
      trust.keys = [
        {
          name = "ci";
          file = ../release/keys/release.pub;
        }
      ];
      rebuild.choice = "config";
    };
    tokenFile = "/var/lib/secrets/%n/forge-token";
    reportKeyFile = "/var/lib/secrets/100%.report-key";
    metricsDirectory = "/var/lib/node-exporter-textfiles";
    onCalendar = "*-*-* 04:00:00";
    rebuildOnCalendar = "Sat *-*-* 02:00:00";
  };
}
