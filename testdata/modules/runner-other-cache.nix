# modules: ec-runner
# fails: nix.settings.{substituters: https://cache.example.org}: caches and their keys are those of services.every-channel.runner.substituters alone
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  nix.settings.substituters = [ "https://cache.example.org" ];
}
