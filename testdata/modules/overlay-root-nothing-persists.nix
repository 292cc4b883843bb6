# modules: overlay-root
# fails: made anew at each boot. Have a file system for it, in fileSystems, or set services.every-channel.overlay-root.persist.var.enable.
{
  services.every-channel.overlay-root = {
    enable = true;
    persist.boot.enable = false;
    persist.nix.enable = false;
    persist.var.enable = false;
  };
  services.openssh = {
    enable = true;
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
  };
}
