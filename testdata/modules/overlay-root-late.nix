# modules: overlay-root
# fails: fileSystems."/var".neededForBoot must be true
{ lib, ... }:
{
  services.every-channel.overlay-root.enable = true;
  fileSystems."/var".neededForBoot = lib.mkForce false;
}
