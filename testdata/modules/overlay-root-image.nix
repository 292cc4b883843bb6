# modules: overlay-root
# fails: fileSystems."/" is set up elsewhere as tmpfs (netboot, ISO and SD images do so)
{ lib, ... }:
{
  services.every-channel.overlay-root.enable = true;
  fileSystems."/" = lib.mkOverride 60 {
    device = "tmpfs";
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
}
