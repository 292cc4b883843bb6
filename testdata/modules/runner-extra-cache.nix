# modules: ec-runner
# fails: nix.settings.{extra-substituters: https://cache.example.org, extra-trusted-public-keys: k:AAAA}
{ lib, testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  nix.settings.extra-substituters = lib.mkForce [ "https://cache.example.org" ];
  nix.settings.extra-trusted-public-keys = lib.mkIf true [ "k:AAAA" ];
}
