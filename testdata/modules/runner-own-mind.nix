# modules: ec-runner
{ lib, testFlake, ... }:
{
  services.every-channel.runner = {
    enable = true;
    flake = testFlake;
  };
  # Plain values of whoever builds the machine win.
  networking.firewall.enable = false;
  services.journald.storage = "volatile";
  services.openssh.settings.PermitRootLogin = "no";
  nix.settings.substituters = lib.mkIf false [ "https://cache.example.org" ];
  nix.settings.trusted-users = [ "root" ];
}
