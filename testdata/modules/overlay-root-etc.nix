# modules: overlay-root
# fails: system.etc.overlay.enable cannot be on
{
  services.every-channel.overlay-root.enable = true;
  system.etc.overlay.enable = true;
  system.etc.overlay.mutable = false;
}
