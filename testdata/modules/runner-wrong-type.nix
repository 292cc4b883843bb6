# modules: ec-runner
# fails: services.every-channel.runner.gcOlderThan' is not of type
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
    gcOlderThan = 30;
  };
}
