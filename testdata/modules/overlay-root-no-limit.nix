# modules: overlay-root
# fails: services.every-channel.overlay-root.upperSize' is not of type
{
  services.every-channel.overlay-root = {
    enable = true;
    upperSize = "0";
  };
}
