# modules: ec-runner
# fails: services.getty.autologinUser lets in whoever stands before the machine
{ testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  services.getty.autologinUser = "nixos";
}
