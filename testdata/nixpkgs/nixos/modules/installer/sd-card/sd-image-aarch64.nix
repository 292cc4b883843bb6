# As nixpkgs': a FAT partition with firmware, an ext4 root made by
# rootFilesystemCreator, extlinux as the boot loader.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  imports = [ ../../image/file-options.nix ];
  options.sdImage = {
    compressImage = mkOption {
      type = types.bool;
      default = true;
    };
    expandOnBoot = mkOption {
      type = types.bool;
      default = true;
    };
    rootFilesystemCreator = mkOption {
      type = types.oneOf [
        types.package
        types.path
      ];
    };
    rootPartitionUUID = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
    rootVolumeLabel = mkOption {
      type = types.str;
      default = "NIXOS_SD";
    };
    storePaths = mkOption { type = types.listOf types.package; };
  };
  config = {
    boot.consoleLogLevel = lib.mkDefault 7;
    boot.kernelParams = [
      "console=ttyS0,115200n8"
      "console=ttyAMA0,115200n8"
      "console=tty0"
    ];
    # Of profiles/base.nix, which that one imports.
    boot.supportedFilesystems = lib.mkMerge [
      [
        "btrfs"
        "ext4"
        "vfat"
      ]
      { zfs = lib.mkDefault true; }
    ];
    boot.loader.generic-extlinux-compatible.enable = true;
    boot.loader.grub.enable = false;
    fileSystems = {
      "/" = {
        device = "/dev/disk/by-label/${config.sdImage.rootVolumeLabel}";
        fsType = "ext4";
      };
      "/boot/firmware" = {
        device = "/dev/disk/by-label/FIRMWARE";
        fsType = "vfat";
        options = [
          "nofail"
          "noauto"
        ];
      };
    };
    hardware.enableAllHardware = true;
    image.extension = if config.sdImage.compressImage then "img.zst" else "img";
    image.filePath = "sd-image/${config.image.fileName}";
    sdImage.storePaths = [ config.system.build.toplevel ];
    system.build.sdImage = pkgs.runCommand config.image.fileName {
      inherit (config.sdImage) expandOnBoot;
      root = pkgs.callPackage config.sdImage.rootFilesystemCreator (
        {
          inherit (config.sdImage) storePaths compressImage;
          populateImageCommands = "mkdir -p files/boot";
          volumeLabel = config.sdImage.rootVolumeLabel;
        }
        // lib.optionalAttrs (config.sdImage.rootPartitionUUID != null) {
          uuid = config.sdImage.rootPartitionUUID;
        }
      );
    } "";
    system.nixos.tags = [ "sd-card" ];
  };
}
