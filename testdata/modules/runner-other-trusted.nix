# modules: ec-runner
# fails: nix.settings.{trusted-users: @wheel}
{ lib, testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  nix.settings.trusted-users = lib.mkBefore [ "@wheel" ];
}
