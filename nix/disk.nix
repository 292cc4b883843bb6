# A runner on a disk: hack/install-runner makes the partitions.
{
  services.every-channel.overlay-root.enable = true;

  boot.loader = {
    systemd-boot = {
      enable = true;
      # /boot is small, and the systems that a runner may go back to are few.
      configurationLimit = 8;
      # Whoever may edit the kernel's command line is root.
      editor = false;
      # An update from within a machine whose EFI variables can't be written
      # still is one.
      graceful = true;
    };
    efi.canTouchEfiVariables = true;
    timeout = 3;
  };
  hardware.enableAllHardware = true;
}
