# modules: ec-runner
# fails: services.every-channel.runner.flake is not set
{
  services.every-channel.runner.enable = true;
}
