# What is promised of the six systems, each promise with a fault that it must
# notice. hack/check-modules evaluates this; what does not hold is in the list
# that comes out.
systems:
let
  inherit (builtins)
    any
    attrNames
    attrValues
    concatMap
    elem
    filter
    match
    ;

  named = pattern: filter (name: match pattern name != null) (attrNames systems);
  all = named ".*";
  disks = named "ec-runner-(aarch64|x86_64)";
  images = filter (name: !elem name disks) all;

  # Words on the kernel's command line that give a shell to whoever stands before
  # the machine, or make systemd think that it may.
  opening = "(boot\\.(shell|debug).*|(rd\\.)?systemd\\.debug[-_]shell.*|init=.*|.*SULOGIN_FORCE.*|(rd\\.)?systemd\\.unit=.*)";

  # The users of NixOS' own services, of which there are dozens, are none to log in.
  others = c: filter (user: user.name != "root") (attrValues c.users.users);
  mayLogIn =
    user:
    user.isNormalUser
    || any (secret: !elem (user.${secret} or null) closed) [
      "hashedPassword"
      "hashedPasswordFile"
      "initialHashedPassword"
      "initialPassword"
      "password"
    ]
    || user.openssh.authorizedKeys.keys ++ user.openssh.authorizedKeys.keyFiles != [ ];
  # Of a password, these are none.
  closed = [
    null
    "!"
    "*"
  ];

  promises = {
    "root has no password, and nobody can give one" = {
      of = all;
      holds =
        c:
        c.users.users.root.hashedPassword == "*"
        && !c.users.mutableUsers
        && c.users.users.root.password == null;
      fault = {
        users.users.root.hashedPassword = "$6$salt$hash";
      };
    };
    "SSH takes keys, those of the system alone" = {
      of = all;
      holds =
        c:
        let
          ssh = c.services.openssh;
        in
        ssh.enable
        && !ssh.authorizedKeysInHomedir
        && ssh.settings.PasswordAuthentication == false
        && ssh.settings.KbdInteractiveAuthentication == false
        && ssh.settings.PermitRootLogin == "prohibit-password";
      fault =
        { lib, ... }:
        {
          services.openssh.authorizedKeysInHomedir = lib.mkForce true;
        };
    };
    "nobody is logged in by himself" = {
      of = all;
      holds = c: c.services.getty.autologinUser == null && filter mayLogIn (others c) == [ ];
      fault = {
        users.users.nixos.isNormalUser = true;
      };
    };
    "nobody but root has a password or a key" = {
      of = all;
      holds = c: filter mayLogIn (others c) == [ ];
      fault = {
        users.users.backup = {
          isSystemUser = true;
          openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA somebody" ];
        };
      };
    };
    "stage 1 gives no shell" = {
      of = all;
      holds = c: c.boot.initrd.systemd.emergencyAccess == false;
      fault =
        { lib, ... }:
        {
          boot.initrd.systemd.emergencyAccess = lib.mkOverride 10 true;
        };
    };
    "stage 2 gives no shell" = {
      of = all;
      holds = c: !c.systemd.enableEmergencyMode;
      fault = {
        systemd.enableEmergencyMode = true;
      };
    };
    "no word of the command line opens a shell" = {
      of = all;
      holds = c: filter (word: match opening word != null) c.boot.kernelParams == [ ];
      fault = {
        boot.kernelParams = [ "boot.shell_on_fail" ];
      };
    };
    "the disk's boot menu can't be edited" = {
      of = disks;
      holds = c: c.boot.loader.systemd-boot.enable && !c.boot.loader.systemd-boot.editor;
      fault =
        { lib, ... }:
        {
          boot.loader.systemd-boot.editor = lib.mkForce true;
        };
    };
    "the root is an overlay on disks" = {
      of = disks;
      holds =
        c:
        c.fileSystems."/".fsType == "overlay"
        && elem "lowerdir=/run/overlay-root/lower" c.fileSystems."/".options;
      fault =
        { lib, ... }:
        {
          services.every-channel.overlay-root.enable = lib.mkForce false;
          fileSystems."/" = {
            device = "/dev/sda1";
            fsType = "ext4";
          };
        };
    };
    "images keep the root that they set up" = {
      of = images;
      holds =
        c:
        elem c.fileSystems."/".fsType [
          "ext4"
          "tmpfs"
        ]
        && !(c.fileSystems ? "/var");
      fault = {
        fileSystems."/var" = {
          device = "/dev/sda1";
          fsType = "ext4";
        };
      };
    };
    "the flake and its inputs are in the system" = {
      of = all;
      holds =
        c:
        let
          flake = c.services.every-channel.runner.flake;
        in
        "${c.environment.etc."every-channel/flake".source}" == flake.outPath
        && builtins.all (input: elem input.outPath c.system.extraDependencies) (attrValues flake.inputs);
      fault =
        { lib, ... }:
        {
          system.extraDependencies = lib.mkForce [ ];
        };
    };
    "Nix asks its one cache, and believes nobody else" = {
      of = all;
      holds =
        c:
        let
          nix = c.nix.settings;
        in
        nix.substituters == [ "https://cache.nixos.org" ]
        && nix.trusted-public-keys == [ "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ]
        && nix.trusted-users == [ "root" ]
        && nix.allowed-users == [ "root" ]
        && nix.trusted-substituters == [ ]
        && nix.require-sigs
        && nix.sandbox
        && !nix.accept-flake-config
        && nix.flake-registry == "";
      fault =
        { lib, ... }:
        {
          nix.settings.trusted-users = lib.mkForce [ "@wheel" ];
        };
    };
    "a machine may take its name from DHCP" = {
      of = all;
      holds = c: c.networking.hostName == "" && c.networking.useNetworkd && c.security.polkit.enable;
      fault = {
        security.polkit.enable = false;
      };
    };
    "no kernel modules from outside of the kernel" = {
      of = all;
      holds = c: !(c.boot.supportedFilesystems.zfs or false);
      fault =
        { lib, ... }:
        {
          boot.supportedFilesystems.zfs = lib.mkForce true;
        };
    };
  };

  check =
    what:
    let
      promise = promises.${what};
    in
    concatMap (
      name:
      let
        system = systems.${name};
        faulty = system.extendModules {
          modules = [ promise.fault ];
        };
      in
      (if promise.holds system.config then [ ] else [ "${name}: not so: ${what}" ])
      ++ (if promise.holds faulty.config then [ "${name}: a fault is not noticed: ${what}" ] else [ ])
    ) promise.of;
in
concatMap check (attrNames promises)
