# modules: overlay-root
# fails: services.every-channel.overlay-root.persist.boot.fsType' is not of type
{
  services.every-channel.overlay-root = {
    enable = true;
    persist.boot.fsType = "ext44";
  };
}
