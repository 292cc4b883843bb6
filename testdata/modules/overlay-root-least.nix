# modules: overlay-root
{
  services.every-channel.overlay-root.enable = true;
}
