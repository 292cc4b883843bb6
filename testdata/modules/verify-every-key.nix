# modules: ec-verify
# Every key that the program has (hack/check-modules holds it against ec-verify
# config show).
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings = {
      configuration = "ec-runner-x86_64";
      flake = "/etc/every-channel/flake";
      storeRoot = "/mnt";
      storeDir = "/nix/store";
      stateDir = "/var/lib/ec-verify";
      read = "disk";
      workers = 2;
      nix.binDir = "/usr/bin";
      nix.evalTimeout = "20m";
      release = {
        source = [ "/srv/releases" ];
        accept = [ "latest" ];
        tokenFile = "/var/lib/secrets/token";
        grace = "72h";
        noticeBefore = "336h";
        keep = 2;
      };
      trust = {
        threshold = 1;
        keys = [
          {
            name = "ci";
            file = ../release/keys/release.pub;
          }
        ];
        identities = [ ];
      };
      rebuild = {
        choice = "sample";
        share = 20;
        firstParty = [ "every-channel-*" ];
        budget = "2h";
        buildTimeout = "30m";
        scratchSize = 5000000000;
        reserve = 1000000000;
        jobs = 2;
        substitute = [ "https://cache.example.org" ];
      };
      report = {
        keyFile = "/var/lib/secrets/report-key";
        dir = "/var/lib/ec-verify/reports";
        keep = 10;
      };
      neighbour = {
        dropBehind = false;
        rate = 10000000;
        maxPressure = 10;
        maxPause = "10m";
      };
      metrics.file = "/var/lib/node-exporter-textfiles/ec-verify.prom";
      journal.when = "always";
      live.otherEntries = "drift";
      contents.budget = "1h";
      ledger.contentsEvery = "24h";
      ledger.rebuildEvery = "720h";
      unsafeUnsigned = false;
      unsafeAllowRollback = false;
      unsafeSkip = [ "live" ];
    };
  };
}
