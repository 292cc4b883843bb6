# What every NixOS system must have, where a test's configuration has none of its own.
{ lib, ... }:
let
  least = lib.mkOverride 1400;
in
{
  system.stateVersion = least "26.05";
  fileSystems."/" = {
    device = least "/dev/disk/by-label/root";
    fsType = least "ext4";
  };
  boot.loader.grub.enable = least false;
}
