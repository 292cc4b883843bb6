# modules: overlay-root
{ config, lib, ... }:
{
  services.every-channel.overlay-root = {
    enable = true;
    persist.boot.fsType = "ext4";
    persist.var.fsType = "btrfs";
  };
  assertions = [
    {
      assertion = lib.all (o: !lib.hasPrefix "umask" o) config.fileSystems."/boot".options;
      message = "/boot has an option that ext4 does not know";
    }
  ];
}
