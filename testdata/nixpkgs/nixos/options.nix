# The options of NixOS 26.05 that our modules set, with the types they have
# there. What is not declared can't be set: a misspelt option is an error.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  opt = type: default: mkOption { inherit type default; };
  bool = opt types.bool;
  str = opt types.str;
  strs = opt (types.listOf types.str) [ ];
  packages = opt (types.listOf types.package) [ ];
  ports = opt (types.listOf types.port) [ ];
  submodules = module: opt (types.attrsOf (types.submodule module)) { };

  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      types.package
    ]
  );
  # A section of a unit: each key once, or as a list; lists are joined, and a
  # list beside a single value is an error.
  section = opt (types.attrsOf (types.either atom (types.listOf atom))) { };

  unit = {
    enable = bool true;
    overrideStrategy = opt (types.enum [
      "asDropinIfExists"
      "asDropin"
    ]) "asDropinIfExists";
    description = opt types.singleLineStr "";
    documentation = strs;
    unitConfig = section;
    startLimitBurst = opt (types.nullOr types.int) null;
    startLimitIntervalSec = opt (types.nullOr types.int) null;
    restartTriggers = opt (types.listOf types.unspecified) [ ];
    reloadTriggers = opt (types.listOf types.unspecified) [ ];
  }
  // lib.genAttrs [
    "after"
    "aliases"
    "before"
    "bindsTo"
    "conflicts"
    "onFailure"
    "onSuccess"
    "partOf"
    "requiredBy"
    "requires"
    "requisite"
    "upheldBy"
    "upholds"
    "wantedBy"
    "wants"
  ] (_: strs);

  service = unit // {
    enableStrictShellChecks = bool false;
    environment = opt (types.attrsOf (
      types.nullOr (
        types.oneOf [
          types.str
          types.path
          types.package
        ]
      )
    )) { };
    path = opt (types.listOf (types.either types.package types.str)) [ ];
    restartIfChanged = bool true;
    reloadIfChanged = bool false;
    script = opt types.lines "";
    preStart = opt types.lines "";
    serviceConfig = section;
    stopIfChanged = bool true;
    startAt = opt (types.either types.str (types.listOf types.str)) [ ];
  };

  rawUnit.options = {
    enable = bool true;
    text = opt (types.nullOr types.str) null;
    overrideStrategy = opt (types.enum [
      "asDropinIfExists"
      "asDropin"
    ]) "asDropinIfExists";
    wantedBy = strs;
    requiredBy = strs;
    aliases = strs;
  };

  units = {
    services = submodules { options = service; };
    timers = submodules {
      options = unit // {
        timerConfig = section;
      };
    };
    sockets = submodules {
      options = unit // {
        listenStreams = strs;
        listenDatagrams = strs;
        socketConfig = section;
      };
    };
    paths = submodules {
      options = unit // {
        pathConfig = section;
      };
    };
    slices = submodules {
      options = unit // {
        sliceConfig = section;
      };
    };
    targets = submodules { options = unit; };
    mounts = opt (types.listOf (
      types.submodule {
        options = unit // {
          what = str "";
          where = str "";
          type = str "";
          options = opt types.commas "";
          mountConfig = section;
        };
      }
    )) [ ];
    units = submodules rawUnit;
  };

  file =
    { name, config, ... }:
    {
      options = {
        enable = bool true;
        target = str name;
        text = opt (types.nullOr types.lines) null;
        source = mkOption { type = types.path; };
        mode = str "symlink";
      };
      config.source = lib.mkIf (config.text != null) (
        lib.mkDefault (pkgs.writeText "etc-${baseNameOf name}" config.text)
      );
    };

  # What stage 1 mounts whether it is asked to or not.
  neededForBoot = [
    "/"
    "/etc"
    "/nix"
    "/nix/store"
    "/usr"
    "/var"
    "/var/lib"
    "/var/lib/nixos"
    "/var/log"
  ];

  fileSystem =
    { name, config, ... }:
    {
      options = {
        mountPoint = opt types.nonEmptyStr name;
        device = opt (types.nullOr types.nonEmptyStr) null;
        label = opt (types.nullOr types.nonEmptyStr) null;
        # Without a default since 26.05.
        fsType = mkOption { type = types.nonEmptyStr; };
        options = opt (types.nonEmptyListOf types.nonEmptyStr) [ "defaults" ];
        depends = strs;
        neededForBoot = bool false;
        autoFormat = bool false;
        autoResize = bool false;
        noCheck = bool false;
      };
      # At the priority of an ordinary definition: who sets the options at that of
      # a default has none of them in the end.
      config.options = lib.mkMerge [
        (lib.mkIf (config.neededForBoot || lib.elem config.mountPoint neededForBoot) [ "x-initrd.mount" ])
        (lib.mkIf config.autoResize [ "x-systemd.growfs" ])
        (lib.mkIf config.autoFormat [ "x-systemd.makefs" ])
      ];
      config.device = lib.mkMerge [
        (lib.mkIf (lib.elem config.fsType [
          "proc"
          "sysfs"
          "tmpfs"
        ]) (lib.mkDefault config.fsType))
        (lib.mkIf (config.label != null) (lib.mkDefault "/dev/disk/by-label/${config.label}"))
      ];
    };

  user =
    { name, ... }@user:
    let
      text = opt (types.nullOr types.str) null;
      fixed = !config.users.mutableUsers;
    in
    {
      options = {
        description = str "";
        extraGroups = strs;
        group = str "";
        home = str "/var/empty";
        isNormalUser = bool false;
        isSystemUser = bool false;
        name = str name;
        openssh.authorizedKeys.keyFiles = opt (types.listOf types.path) [ ];
        openssh.authorizedKeys.keys = opt (types.listOf types.singleLineStr) [ ];
        hashedPassword = text;
        hashedPasswordFile = text;
        initialHashedPassword = text;
        initialPassword = text;
        password = text;
      };
      # Where nobody can change it, the first password is the password.
      config = {
        hashedPassword = lib.mkIf (fixed && user.config.initialHashedPassword != null) (
          lib.mkDefault user.config.initialHashedPassword
        );
        password = lib.mkIf (fixed && user.config.initialPassword != null) (
          lib.mkDefault user.config.initialPassword
        );
      };
    };

  configAtoms = opt (types.submodule {
    freeformType = types.attrsOf (types.either atom (types.listOf atom));
  }) { };
in
{
  options = {
    assertions = opt (types.listOf types.raw) [ ];
    warnings = strs;

    boot = {
      consoleLogLevel = opt types.int 4;
      initrd = {
        availableKernelModules = strs;
        kernelModules = strs;
        supportedFilesystems = opt (types.coercedTo (types.listOf types.str) (l: lib.genAttrs l (_: true)) (
          types.attrsOf types.bool
        )) { };
        systemd = units // {
          enable = bool true;
          emergencyAccess = opt (types.oneOf [
            types.bool
            (types.nullOr types.str)
          ]) false;
          extraBin = opt (types.attrsOf types.path) { };
          initrdBin = packages;
          settings.Manager = configAtoms;
          storePaths = opt (types.listOf types.unspecified) [ ];
          suppressedUnits = strs;
        };
      };
      kernelModules = strs;
      kernelParams = strs;
      kernel.sysctl = configAtoms;
      loader = {
        efi.canTouchEfiVariables = bool false;
        efi.efiSysMountPoint = str "/boot";
        generic-extlinux-compatible.enable = bool false;
        grub.enable = bool (!config.boot.isContainer && !config.boot.loader.systemd-boot.enable);
        grub.devices = strs;
        systemd-boot = {
          enable = bool false;
          configurationLimit = opt (types.nullOr types.int) null;
          editor = bool true;
          graceful = bool false;
        };
        timeout = opt (types.nullOr types.int) 5;
      };
      isContainer = bool false;
      supportedFilesystems = opt (types.coercedTo (types.listOf types.str) (l: lib.genAttrs l (_: true)) (
        types.attrsOf types.bool
      )) { };
      tmp.cleanOnBoot = bool false;
      tmp.useTmpfs = bool false;
    };

    documentation.enable = bool true;
    environment = {
      defaultPackages = packages;
      etc = submodules file;
      systemPackages = packages;
    };
    fileSystems = submodules fileSystem;
    hardware.enableAllHardware = bool false;
    hardware.enableRedistributableFirmware = bool false;
    i18n.defaultLocale = str "en_US.UTF-8";
    image.baseName = str "nixos";

    networking = {
      firewall = {
        enable = bool true;
        allowedTCPPorts = ports;
        allowedUDPPorts = ports;
        interfaces = submodules {
          options.allowedTCPPorts = ports;
          options.allowedUDPPorts = ports;
        };
        # Only with the iptables backend, and only with the nftables one.
        extraCommands = opt types.lines "";
        extraInputRules = opt types.lines "";
      };
      hostName = opt (types.strMatching "|[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?") "nixos";
      nftables.enable = bool false;
      useDHCP = bool true;
      useNetworkd = bool false;
    };

    nix = {
      channel.enable = bool true;
      gc = {
        automatic = bool false;
        dates = mkOption {
          type = types.either types.singleLineStr (types.listOf types.str);
          default = [ "03:15" ];
          apply = lib.toList;
        };
        options = opt types.singleLineStr "";
        persistent = bool true;
        randomizedDelaySec = opt types.singleLineStr "0";
      };
      extraOptions = opt types.lines "";
      package = opt types.package pkgs.nix;
      settings = configAtoms;
    };
    nixpkgs = {
      hostPlatform = mkOption { type = types.str; };
      overlays = opt (types.listOf types.raw) [ ];
    };
    programs.command-not-found.enable = bool true;
    security.polkit.enable = bool false;
    security.sudo.enable = bool true;

    services = {
      avahi.enable = bool false;
      avahi.nssmdns4 = bool false;
      getty.autologinUser = opt (types.nullOr types.str) null;
      dnsmasq.enable = bool false;
      nginx = {
        enable = bool false;
        defaultHTTPListenPort = opt types.port 80;
        defaultListen = opt (types.listOf (
          types.submodule {
            options = {
              addr = mkOption { type = types.str; };
              port = opt (types.nullOr types.port) null;
              ssl = opt (types.nullOr types.bool) null;
            };
          }
        )) [ ];
        defaultSSLListenPort = opt types.port 443;
        defaultListenAddresses = opt (types.listOf types.str) [
          "0.0.0.0"
          "[::0]"
        ];
        virtualHosts = submodules {
          options = {
            listen = opt (types.listOf (
              types.submodule {
                options = {
                  addr = mkOption { type = types.str; };
                  port = opt (types.nullOr types.port) null;
                  ssl = bool false;
                };
              }
            )) [ ];
            listenAddresses = strs;
            addSSL = bool false;
            forceSSL = bool false;
            onlySSL = bool false;
            rejectSSL = bool false;
            sslCertificate = mkOption { type = types.path; };
            sslCertificateKey = mkOption { type = types.path; };
          };
        };
      };
      openssh = {
        enable = bool false;
        authorizedKeysInHomedir = bool true;
        hostKeys = opt (types.listOf types.attrs) [ ];
        settings = opt (types.submodule {
          freeformType = types.attrsOf (types.either atom (types.listOf atom));
          options = {
            KbdInteractiveAuthentication = opt (types.nullOr types.bool) true;
            PasswordAuthentication = opt (types.nullOr types.bool) true;
            PermitRootLogin = opt (types.nullOr (
              types.enum [
                "yes"
                "without-password"
                "prohibit-password"
                "forced-commands-only"
                "no"
              ]
            )) "prohibit-password";
            X11Forwarding = opt (types.nullOr types.bool) false;
          };
        }) { };
      };
      timesyncd.enable = bool true;
    };

    system = {
      boot.loader.kernelFile = mkOption { type = types.str; };
      build = opt (types.lazyAttrsOf types.unspecified) { };
      checks = packages;
      configurationRevision = opt (types.nullOr types.str) null;
      etc.overlay.enable = bool false;
      etc.overlay.mutable = bool true;
      extraDependencies = opt (types.listOf types.pathInStore) [ ];
      name = mkOption { type = types.str; };
      nixos.label = mkOption { type = types.strMatching "[a-zA-Z0-9:_.-]*"; };
      nixos.tags = strs;
      nixos.version = str "26.05.20260818.b18a4b9";
      stateVersion = mkOption { type = types.strMatching "[0-9]{2}[.][0-9]{2}"; };
    };

    systemd = units // {
      enableEmergencyMode = bool true;
      package = opt types.package pkgs.systemd;
      packages = packages;
      settings.Manager = configAtoms;
      suppressedSystemUnits = strs;
      tmpfiles.rules = strs;
    };
    time.timeZone = opt (types.nullOr types.str) null;
    users = {
      allowNoPasswordLogin = bool false;
      groups = submodules { };
      mutableUsers = bool true;
      users = submodules user;
    };
  };
}
