# modules: overlay-root
# fails: /etc/ssh/ssh_host_ed25519_key is on the tmpfs and would be made anew at each boot. Put it below /var.
{
  services.every-channel.overlay-root.enable = true;
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
