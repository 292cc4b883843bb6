# modules: overlay-root
# fails: system.etc.overlay.mutable cannot be on
{
  services.every-channel.overlay-root.enable = true;
  system.etc.overlay.enable = true;
}
