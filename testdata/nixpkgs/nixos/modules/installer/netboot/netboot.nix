# As nixpkgs': the root is a tmpfs, the store a squashfs in the ramdisk.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  media = lib.mkImageMediaOverride;
in
{
  imports = [ ../../image/file-options.nix ];
  options.netboot.squashfsCompression = lib.mkOption {
    type = lib.types.str;
    default = "zstd -Xcompression-level 19";
  };
  config = {
    boot.loader.grub.enable = false;
    boot.loader.timeout = 10;
    fileSystems = {
      "/" = media {
        fsType = "tmpfs";
        options = [ "mode=0755" ];
      };
      "/nix/.ro-store" = media {
        fsType = "squashfs";
        device = "../nix-store.squashfs";
        options = [
          "loop"
          "threads=multi"
        ];
        neededForBoot = true;
      };
      "/nix/.rw-store" = media {
        fsType = "tmpfs";
        options = [ "mode=0755" ];
        neededForBoot = true;
      };
      "/nix/store" = media {
        overlay = {
          lowerdir = [ "/nix/.ro-store" ];
          upperdir = "/nix/.rw-store/store";
          workdir = "/nix/.rw-store/work";
        };
        neededForBoot = true;
      };
    };
    image.extension = "tar.xz";
    image.filePath = "tarball/${config.image.fileName}";
    system.build.netbootRamdisk = pkgs.runCommand "initrd" {
      inherit (config.system.build) toplevel initialRamdisk;
      compression = config.netboot.squashfsCompression;
    } "";
    system.nixos.tags = [ "kexec" ];
    systemd.services.register-nix-paths = {
      description = "Register Nix Store Paths";
      wantedBy = [ "sysinit.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig.Type = "oneshot";
      script = "nix-store --load-db";
    };
  };
}
