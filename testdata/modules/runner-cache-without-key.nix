# modules: ec-runner
# fails: services.every-channel.runner.substituters."https://cache.example.org"' is not of type
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
    substituters."https://cache.example.org" = "";
  };
}
