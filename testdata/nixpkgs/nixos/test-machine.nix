# What nixpkgs' test framework sets on each machine of a test, as far as it meets
# what our modules set: nixos/modules/testing/test-instrumentation.nix and
# nixos/modules/virtualisation/qemu-vm.nix.
{ lib, pkgs, ... }:
{
  boot.consoleLogLevel = 7;
  # qemu has the kernel from outside.
  boot.loader.grub.devices = lib.mkVMOverride [ "/dev/vda" ];
  boot.kernelParams = [ "panic=1" ];
  fileSystems = lib.mkVMOverride {
    "/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
    };
  };
  services.journald.extraConfig = "ForwardToConsole=yes";
  services.timesyncd.enable = false;
  system.nixos.label = lib.mkForce "test";
  system.stateVersion = lib.mkOverride 1200 "26.05";
  # root has an empty password there, for whoever looks at a machine by hand.
  users.users.root.hashedPasswordFile = lib.mkOverride 150 "${pkgs.writeText "hashed-password" ""}";
}
