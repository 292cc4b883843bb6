# modules: overlay-root
# fails: needs boot.initrd.systemd.enable
{
  services.every-channel.overlay-root.enable = true;
  boot.initrd.systemd.enable = false;
}
