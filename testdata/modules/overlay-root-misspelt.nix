# modules: overlay-root
# fails: The option `services.every-channel.overlay-root.onMising' does not exist
{
  services.every-channel.overlay-root.onMising = "reboot";
}
