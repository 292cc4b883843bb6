# modules: overlay-root
# fails: services.every-channel.overlay-root.onMissing' is not of type
{
  services.every-channel.overlay-root = {
    enable = true;
    onMissing = "panic";
  };
}
