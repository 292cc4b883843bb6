# modules: overlay-root
{
  services.every-channel.overlay-root.enable = true;
  fileSystems."/persist" = {
    device = "/dev/disk/by-label/persist";
    fsType = "ext4";
    neededForBoot = true;
  };
  fileSystems."/etc/ssh/keys" = {
    device = "/persist/keys";
    fsType = "none";
    options = [ "bind" ];
  };
  services.openssh = {
    enable = true;
    hostKeys = [
      {
        type = "ed25519";
        path = "/persist/ssh/ssh_host_ed25519_key";
      }
      {
        type = "rsa";
        path = "/etc/ssh/keys/ssh_host_rsa_key";
      }
    ];
  };
}
