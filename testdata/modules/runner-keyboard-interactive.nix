# modules: ec-runner
# fails: services.openssh.settings.KbdInteractiveAuthentication must stay off
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  services.openssh.settings.KbdInteractiveAuthentication = true;
}
