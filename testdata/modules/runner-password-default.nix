# modules: ec-runner
# fails: services.openssh.settings.PasswordAuthentication must stay off
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  services.openssh.settings.PasswordAuthentication = null;
}
