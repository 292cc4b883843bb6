# modules: overlay-root
# fails: services.every-channel.overlay-root.persist.nix.device and services.every-channel.overlay-root.persist.var.device are the same device, /dev/disk/by-label/state
{
  services.every-channel.overlay-root = {
    enable = true;
    persist.nix.device = "/dev/disk/by-label/state";
    persist.var.device = "/dev/disk/by-label/state";
  };
}
