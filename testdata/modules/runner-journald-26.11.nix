# modules: ec-runner
# stand-in: a file of the stand-in, for an option that is to come
{
  config,
  modulesPath,
  testFlake,
  ...
}:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  imports = [ "${modulesPath}/journald-26.11.nix" ];
  services.journald.settings.Journal.SystemKeepFree = "2G";
  assertions = [
    {
      assertion =
        config.services.journald.settings.Journal == {
          Storage = "persistent";
          RateLimitIntervalSec = "30s";
          RateLimitBurst = 5000;
          SystemMaxUse = "1G";
          SystemKeepFree = "2G";
          MaxRetentionSec = "3month";
        };
      message = "the journal is not kept as it should be";
    }
  ];
}
