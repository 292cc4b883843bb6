# modules: overlay-root
{
  services.every-channel.overlay-root = {
    enable = true;
    device = "/dev/disk/by-label/root";
    fsType = "xfs";
    upperSize = "512m";
    persist.boot.enable = false;
    persist.var.device = "/dev/disk/by-id/nvme-var_1-part1";
    deviceTimeout = 30;
    onMissing = "poweroff";
    noticeSeconds = 10;
  };
  services.openssh.enable = true;
}
