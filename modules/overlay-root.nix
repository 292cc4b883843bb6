# services.every-channel.overlay-root: a root that is read-only, with a tmpfs
# over it. What is written to it is gone after a reboot; /boot, /nix and /var
# persist on partitions of their own.
# docs/install.md has the whole; overlay-root/layout.nix the mounts.
{
  config,
  lib,
  ...
}:
let
  inherit (lib)
    mkDefault
    mkEnableOption
    mkIf
    mkOption
    types
    ;
  prefix = "services.every-channel.overlay-root";
  cfg = config.services.every-channel.overlay-root;

  disk = builtins.fromJSON (builtins.readFile ./overlay-root/disk-layout.json);
  partition = name: lib.findFirst (p: p.name == name) null disk.partitions;
  persist = lib.filter (name: cfg.persist.${name}.enable) [
    "boot"
    "nix"
    "var"
  ];

  layout = import ./overlay-root/layout.nix {
    inherit persist;
    inherit (cfg)
      deviceTimeout
      noticeSeconds
      onMissing
      upperSize
      ;
    devices = {
      root = cfg.device;
    }
    // lib.genAttrs persist (name: cfg.persist.${name}.device);
    fsTypes = {
      root = cfg.fsType;
    }
    // lib.genAttrs persist (name: cfg.persist.${name}.fsType);
  };

  device =
    name: where:
    mkOption {
      type = types.strMatching "(/[A-Za-z0-9_.:-]+)+";
      default = "/dev/disk/by-partlabel/${(partition name).partlabel}";
      description = "The device of ${where}. The default is the partition that `install-runner` makes.";
    };

  fsType =
    name: where:
    mkOption {
      type = types.enum (
        [
          "btrfs"
          "ext4"
          "f2fs"
          "xfs"
        ]
        # It has no owners and no links, but firmware reads it.
        ++ lib.optional (name == "boot") "vfat"
        # What can't be written to is no worse a layer below.
        ++ lib.optionals (name == "root") [
          "erofs"
          "squashfs"
        ]
      );
      default = (partition name).fsType;
      description = "The type of ${where}.";
    };

  persistent = name: where: {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether ${where} persists, on a file system of its own.";
    };
    device = device name where;
    fsType = fsType name where;
  };

  units = lib.mapAttrs (
    _: u: {
      inherit (u) text requiredBy wantedBy;
      overrideStrategy = if u.dropIn then "asDropin" else "asDropinIfExists";
    }
  );

  mountPoints = map (name: (partition name).mountPoint) persist;

  # Devices that are named for two places, each with the options that name it.
  deviceOptions = {
    "${prefix}.device" = cfg.device;
  }
  // lib.listToAttrs (
    map (name: lib.nameValuePair "${prefix}.persist.${name}.device" cfg.persist.${name}.device) persist
  );
  shared = lib.filter (group: lib.length group > 1) (
    lib.attrValues (lib.groupBy (option: deviceOptions.${option}) (lib.attrNames deviceOptions))
  );

  # Whether what is below path is there after a reboot: the file system that it is
  # on is none in memory. Of a bind mount, it is the one that it shows.
  isPersistent =
    path:
    let
      above = lib.filter (
        where: where != "/" && (path == where || lib.hasPrefix "${lib.removeSuffix "/" where}/" path)
      ) (lib.attrNames config.fileSystems);
      # The innermost.
      where = lib.foldl' (a: b: if lib.stringLength b > lib.stringLength a then b else a) "" above;
      f = config.fileSystems.${where};
    in
    where != ""
    && (
      if lib.elem "bind" f.options || lib.elem "rbind" f.options then
        f.device != where && isPersistent (f.device + lib.removePrefix where path)
      else
        !lib.elem f.fsType [
          "overlay"
          "ramfs"
          "tmpfs"
        ]
    );
  root = config.fileSystems."/";
in
{
  _class = "nixos";

  options.services.every-channel.overlay-root = {
    enable = mkEnableOption ''
      a read-only root with a tmpfs over it. Images that set up a root of their
      own (netboot, ISO, SD card) need this off'';

    device = device "root" "the real root, which is mounted read-only";
    fsType = fsType "root" "the real root's file system";

    upperSize = mkOption {
      type = types.strMatching "[1-9][0-9]*[kmgKMG%]?";
      default = "50%";
      example = "512m";
      description = ''
        How much may be written over the root: bytes, with a suffix k, m or g, or a
        percentage of the memory.
      '';
    };

    persist = {
      boot = persistent "boot" "`/boot`";
      nix = persistent "nix" "`/nix`";
      var = persistent "var" "`/var`";
    };

    deviceTimeout = mkOption {
      type = types.ints.between 1 3600;
      default = 60;
      description = "Seconds that stage 1 waits for a device.";
    };

    onMissing = mkOption {
      type = types.enum [
        "reboot"
        "poweroff"
        "emergency"
      ];
      default = "reboot";
      description = ''
        What to do when a file system is missing or cannot be mounted, after the
        console has shown its name: reboot, power off, or stay in stage 1's
        emergency mode (see {option}`boot.initrd.systemd.emergencyAccess`).
      '';
    };

    noticeSeconds = mkOption {
      type = types.ints.between 0 3600;
      default = 60;
      description = "Seconds for which the console shows the missing file systems, before a reboot or power-off.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = config.boot.initrd.systemd.enable;
        message = "${prefix}.enable needs boot.initrd.systemd.enable: its mounts are units of a systemd stage 1.";
      }
      {
        assertion = root.fsType == "overlay" && lib.elem "upperdir=${layout.paths.upper}" root.options;
        message = "${prefix}.enable: fileSystems.\"/\" is set up elsewhere as ${toString root.fsType} (netboot, ISO and SD images do so): set ${prefix}.enable = false there, or remove that file system and set ${prefix}.device.";
      }
      {
        # Mutable, its upper layer would lie on an overlay, which the kernel
        # refuses; immutable, the machine's id could not be written into it.
        assertion = !config.system.etc.overlay.enable;
        message = "${prefix}.enable: system.etc.overlay.enable cannot be on: /etc is a part of the root's overlay, where the machine's id is kept.";
      }
    ]
    ++ map (options: {
      assertion = false;
      message = "${lib.concatStringsSep " and " options} are the same device, ${
        deviceOptions.${lib.head options}
      }: each file system has its own.";
    }) shared
    ++ map (where: {
      assertion = config.fileSystems.${where}.neededForBoot;
      message = "${prefix}.enable: fileSystems.\"${where}\".neededForBoot must be true: without it stage 1 goes on before ${where} is there.";
    }) mountPoints
    ++ map (key: {
      assertion = isPersistent key.path;
      message = "${prefix}.enable: services.openssh.hostKeys: ${key.path} is on the tmpfs and would be made anew at each boot. ${
        if cfg.persist.var.enable then
          "Put it below /var."
        else
          "Have a file system for it, in fileSystems, or set ${prefix}.persist.var.enable."
      }";
    }) (lib.optionals config.services.openssh.enable config.services.openssh.hostKeys);

    # At the priority of a default, so that another definition ends in the
    # assertion above and not in a conflict without advice. Not so the options:
    # NixOS adds one of its own to what stage 1 mounts, and lists of defaults give
    # way to it.
    fileSystems = lib.mapAttrs (
      where: f:
      if where == "/" then
        {
          device = mkDefault f.device;
          fsType = mkDefault f.fsType;
          inherit (f) options;
        }
      else
        f
    ) layout.fileSystems;

    boot.initrd = {
      availableKernelModules = layout.kernelModules;
      supportedFilesystems = lib.genAttrs layout.fsTypes (_: true);
      systemd.units = units layout.initrdUnits;
    };

    systemd = {
      units = units layout.systemUnits;
      inherit (layout) suppressedSystemUnits;
    };

    services.openssh.hostKeys = mkIf cfg.persist.var.enable (mkDefault layout.hostKeys);
  };
}
