# modules: overlay-root
# fails: /var/keys/ssh_host_ed25519_key is on the tmpfs and would be made anew at each boot. Put it below /var.
{
  services.every-channel.overlay-root.enable = true;
  fileSystems."/var/keys".fsType = "tmpfs";
  services.openssh = {
    enable = true;
    hostKeys = [
      {
        type = "ed25519";
        path = "/var/keys/ssh_host_ed25519_key";
      }
    ];
  };
}
