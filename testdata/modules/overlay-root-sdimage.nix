# modules: overlay-root
# fails: fileSystems."/" is set up elsewhere as ext4 (netboot, ISO and SD images do so)
{
  services.every-channel.overlay-root.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/NIXOS_SD";
    fsType = "ext4";
  };
}
