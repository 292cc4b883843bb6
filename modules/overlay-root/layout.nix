# The mounts of a machine whose root is read-only: the real root below, a tmpfs
# above, and persistent /boot, /nix and /var beside it. Written once, with
# builtins alone, so that the NixOS module and a test without nixpkgs boot the
# same unit files:
#
#   nix-instantiate --eval --strict --json -E 'import ./layout.nix { }'
#
# What stage 1 mounts:
#
#   /run/overlay-root         tmpfs, with upper/ and work/
#   /run/overlay-root/lower   the real root, read-only
#   /                         overlay of both
#   /boot, /nix, /var         from partitions of their own
#
# systemd hands /run over to the booted system, so lower and upper can be seen
# there too.
{
  # Which of disk-layout.json's file systems persist, by name.
  persist ? [
    "boot"
    "nix"
    "var"
  ],
  # Device of a file system, by name, where it is not found by its partition's
  # label.
  devices ? { },
  # Type of a file system, by name, where it is not the disk layout's.
  fsTypes ? { },
  # How much the tmpfs may hold: bytes with a suffix, or a percentage of memory.
  upperSize ? "50%",
  # Seconds to wait for a device.
  deviceTimeout ? 60,
  # What to do when a file system is missing: "reboot", "poweroff", or
  # "emergency", which leaves the machine in stage 1's emergency mode.
  onMissing ? "reboot",
  # Seconds for which what is missing stands on the console before that.
  noticeSeconds ? 60,
}:
let
  disk = builtins.fromJSON (builtins.readFile ./disk-layout.json);

  byName = builtins.listToAttrs (
    map (p: {
      inherit (p) name;
      value = p;
    }) disk.partitions
  );

  # A path as it stands in a unit's name. systemd escapes everything but a few
  # characters; of those that are not kept, devices here have only "-".
  escape =
    path:
    if builtins.match "(/[A-Za-z0-9_.:-]+)+" path == null then
      throw "overlay-root: ${path}: want an absolute path of letters, digits, and _.:-"
    else
      builtins.replaceStrings [ "-" "/" ] [ "\\x2d" "-" ] (
        builtins.substring 1 (builtins.stringLength path) path
      );

  deviceOf = name: devices.${name} or "/dev/disk/by-partlabel/${byName.${name}.partlabel}";
  typeOf = name: fsTypes.${name} or byName.${name}.fsType;
  timeout = toString deviceTimeout;

  state = "/run/overlay-root";
  lower = "${state}/lower";
  upper = "${state}/upper";
  work = "${state}/work";

  options = {
    boot = [
      "nodev"
      "nosuid"
      "noexec"
    ];
    nix = [
      "nodev"
      "nosuid"
      "noatime"
    ];
    var = [
      "nodev"
      "nosuid"
    ];
  };

  # Where files have no owners, they are root's alone. To others this option is an
  # error, and the file system is not mounted.
  ofType = fsType: if fsType == "vfat" then [ "umask=0077" ] else [ ];

  persistent = map (
    name:
    if name == "root" || !byName ? ${name} then
      throw "overlay-root: persist: no file system ${name}"
    else
      {
        inherit name;
        where = byName.${name}.mountPoint;
        device = deviceOf name;
        fsType = typeOf name;
        options = options.${name} ++ ofType (typeOf name) ++ [ "x-systemd.device-timeout=${timeout}s" ];
      }
  ) persist;

  # What NixOS takes as fileSystems.
  fileSystems = {
    "/" = {
      device = "overlay";
      fsType = "overlay";
      options = [
        "lowerdir=${lower}"
        "upperdir=${upper}"
        "workdir=${work}"
      ];
      neededForBoot = true;
    };
  }
  // builtins.listToAttrs (
    map (p: {
      name = p.where;
      value = {
        inherit (p) device fsType options;
        neededForBoot = true;
      };
    }) persistent
  );

  # The same as the text that NixOS makes of it, for stage 1 and stage 2 alike.
  fstab =
    let
      line =
        where:
        let
          f = fileSystems.${where};
          pass = if f.fsType == "overlay" then "0" else "2";
        in
        "${f.device} ${where} ${f.fsType} ${
          builtins.concatStringsSep "," (f.options ++ [ "x-initrd.mount" ])
        } 0 ${pass}\n";
    in
    builtins.concatStringsSep "" (map line (builtins.attrNames fileSystems));

  unit = text: {
    inherit text;
    requiredBy = [ ];
    wantedBy = [ ];
    dropIn = false;
  };
  dropIn = text: unit text // { dropIn = true; };

  action = {
    reboot = "reboot-force";
    poweroff = "poweroff-force";
    emergency = null;
  };
  then' =
    if !action ? ${onMissing} then
      throw "overlay-root: onMissing: ${onMissing}: want reboot, poweroff or emergency"
    else
      action.${onMissing};
  outcome =
    {
      reboot = "Rebooting in ${toString noticeSeconds} s.";
      poweroff = "Powering off in ${toString noticeSeconds} s.";
      emergency = "Waiting in emergency mode.";
    }
    .${onMissing};

  # A service that says on every console what is wrong. It goes through the
  # kernel's log, at a level that is shown even with "quiet".
  #
  # systemd starts it also where the mount only failed in consequence of
  # another: of the lines in `conditions`, with "|", one must hold, and
  # they are looked at once the units in `after` are there or have failed.
  notice =
    {
      description,
      message,
      after,
      conditions,
    }:
    unit ''
      [Unit]
      Description=${description}
      DefaultDependencies=no
      After=${builtins.concatStringsSep " " after}
      ${builtins.concatStringsSep "\n" conditions}
      ${
        if then' == null then
          ""
        else
          ''
            SuccessAction=${then'}
            FailureAction=${then'}
          ''
      }
      [Service]
      Type=oneshot
      StandardOutput=kmsg
      SyslogIdentifier=overlay-root
      SyslogLevel=crit
      ExecStart=/bin/echo "${message} ${outcome}"
      ${if then' == null then "" else "ExecStart=/bin/sleep ${toString noticeSeconds}"}
    '';

  # below: where that must be mounted before this can be.
  missing =
    what: below: device:
    notice {
      description = "Say that ${what} is missing";
      message = "${what} is missing: ${device} did not appear within ${timeout} s, or holds no file system that can be mounted. Check the disk, or install again (install-runner --keep-var keeps /var).";
      after = [
        "${escape below}.mount"
        "${escape device}.device"
      ];
      conditions = [
        "ConditionPathIsMountPoint=|${below}"
        "ConditionPathExists=|!${device}"
      ];
    };

  initrdUnits = {
    "${escape state}.mount" = unit ''
      [Unit]
      Description=What is written over the root
      DefaultDependencies=no
      OnFailure=overlay-root-failed.service

      [Mount]
      What=tmpfs
      Where=${state}
      Type=tmpfs
      Options=mode=0700,size=${upperSize}
    '';

    "${escape lower}.mount" = unit ''
      [Unit]
      Description=The real root, read-only
      DefaultDependencies=no
      OnFailure=overlay-root-missing-root.service

      [Mount]
      What=${deviceOf "root"}
      Where=${lower}
      Type=${typeOf "root"}
      Options=ro
    '';

    # fstab lines have an option for this, unit files have not.
    "${escape (deviceOf "root")}.device" = dropIn ''
      [Unit]
      JobRunningTimeoutSec=${timeout}s
    '';

    "overlay-root-prepare.service" =
      unit ''
        [Unit]
        Description=Make the directories of the root's upper layer
        DefaultDependencies=no
        RequiresMountsFor=${state} ${lower}
        Before=sysroot.mount
        OnFailure=overlay-root-failed.service

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/mkdir -p -m 0755 ${upper} ${work}
      ''
      // {
        requiredBy = [ "sysroot.mount" ];
      };

    "sysroot.mount" = dropIn ''
      [Unit]
      OnFailure=overlay-root-failed.service
    '';

    "overlay-root-missing-root.service" = missing "the root file system" state (deviceOf "root");

    "overlay-root-failed.service" = notice {
      description = "Say that there is no root";
      message = "the overlay for / could not be mounted; the lines above say why.";
      after = [
        "${escape state}.mount"
        "${escape lower}.mount"
      ];
      conditions = [
        "ConditionPathIsMountPoint=|!${state}"
        "ConditionPathIsMountPoint=|${lower}"
      ];
    };
  }
  // builtins.listToAttrs (
    builtins.concatMap (p: [
      {
        name = "${escape "/sysroot${p.where}"}.mount";
        value = dropIn ''
          [Unit]
          OnFailure=overlay-root-missing-${p.name}.service
        '';
      }
      {
        name = "overlay-root-missing-${p.name}.service";
        value = missing p.where "/sysroot" p.device;
      }
    ]) persistent
  )
  // (
    if !builtins.elem "var" persist then
      { }
    else
      {
        # An id on the tmpfs would be another at each boot, and with it the
        # journal's directory and the DHCP client's id.
        "overlay-root-machine-id.service" =
          unit ''
            [Unit]
            Description=Keep the machine's id
            DefaultDependencies=no
            RequiresMountsFor=/sysroot/etc /sysroot/var
            Before=initrd.target initrd-switch-root.target

            [Service]
            Type=oneshot
            RemainAfterExit=yes
            ExecStart=/bin/sh -euc '${execScript keepMachineId}'
          ''
          // {
            wantedBy = [ "initrd.target" ];
          };
      }
  );

  machineId = "/var/lib/overlay-root/machine-id";

  # Written aside and moved, so that a power cut leaves the one or the other.
  keepMachineId = ''
    kept=/sysroot${machineId}
    mkdir -p "''${kept%/*}" /sysroot/etc
    id=$(cat "$kept" 2>/dev/null || true)
    case "$id" in *[!0-9a-f]*) id= ;; esac
    if [ "''${#id}" != 32 ]; then
      id=$(tr -d - </proc/sys/kernel/random/uuid)
      echo "$id" >"$kept.new"
      sync "$kept.new"
      mv -f "$kept.new" "$kept"
    fi
    rm -f /sysroot/etc/machine-id
    echo "$id" >/sysroot/etc/machine-id
    chmod 0444 /sysroot/etc/machine-id
  '';

  # A script without quotes of the outer kind, as one argument in a unit.
  execScript =
    script:
    builtins.replaceStrings
      [
        "%"
        "$"
        "\n"
      ]
      [
        "%%"
        "$$"
        "\\n\\\n"
      ]
      script;
in
{
  inherit
    disk
    fileSystems
    fstab
    initrdUnits
    machineId
    ;

  paths = {
    inherit
      state
      lower
      upper
      work
      ;
  };

  # Stage 2 would try to unmount these while they still hold up the root.
  systemUnits = {
    "${escape state}.mount" = dropIn ''
      [Unit]
      DefaultDependencies=no
    '';
    "${escape lower}.mount" = dropIn ''
      [Unit]
      DefaultDependencies=no
    '';
  };

  # An overlay takes no remount of its options: "overlay: No changes allowed in
  # reconfigure" (util-linux 2.41), and the unit would fail at each boot.
  suppressedSystemUnits = [ "systemd-remount-fs.service" ];

  # Kernel modules of stage 1, and the file systems that it must know.
  kernelModules = [
    "overlay"
    "vfat"
    "nls_cp437"
    "nls_iso8859-1"
  ];
  fsTypes = builtins.attrNames (
    builtins.listToAttrs (
      map (t: {
        name = t;
        value = null;
      }) ([ (typeOf "root") ] ++ map (p: p.fsType) persistent)
    )
  );

  # Where sshd has its keys, in NixOS' form.
  hostKeys = [
    {
      type = "ed25519";
      path = "/var/lib/ssh/ssh_host_ed25519_key";
    }
  ];
}
