# The options of NixOS 26.05 that our modules set, with the types they have
# there. What is not declared can't be set: a misspelt option is an error.
{
  config,
  lib,
  options,
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
  # Where none is set, nginx has one.
  hosts = module: opt (types.attrsOf (types.submodule module)) { localhost = { }; };

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
  # A key of a unit's section: a value that is defined once, or lists, which are joined.
  unitOption = lib.mkOptionType {
    name = "systemd option";
    merge =
      loc: defs:
      let
        values = map (def: def.value) defs;
      in
      if lib.any lib.isList values then
        lib.concatMap lib.toList values
      else
        lib.mergeEqualOption loc defs;
  };
  section = opt (types.attrsOf unitOption) { };

  unitNames = opt (types.listOf (
    types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)"
  )) [ ];

  # A field of /etc/passwd or /etc/shadow.
  entry =
    type:
    type
    // {
      name = "passwdEntry ${type.name}";
      check = v: type.check v && !(lib.hasInfix ":" v) && !(lib.hasInfix "\n" v);
    };

  # What all units have. Without a default is what is nowhere if it is not set.
  unit =
    { config, options, ... }:
    {
      options = {
        enable = bool true;
        overrideStrategy = opt (types.enum [
          "asDropinIfExists"
          "asDropin"
        ]) "asDropinIfExists";
        description = opt types.singleLineStr "";
        documentation = strs;
        unitConfig = section;
        startLimitBurst = mkOption { type = types.int; };
        startLimitIntervalSec = mkOption { type = types.int; };
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
      ] (_: unitNames);
      config.unitConfig = lib.mkMerge [
        (lib.mkIf options.startLimitBurst.isDefined { StartLimitBurst = config.startLimitBurst; })
        (lib.mkIf options.startLimitIntervalSec.isDefined {
          StartLimitIntervalSec = config.startLimitIntervalSec;
        })
      ];
    };
  # What only those after stage 1 have, which a running system changes.
  switched.options = {
    restartTriggers = opt (types.listOf types.unspecified) [ ];
    reloadTriggers = opt (types.listOf unitOption) [ ];
  };

  service.options = {
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
    script = opt types.lines "";
    preStart = opt types.lines "";
    serviceConfig = section;
  };
  switchedService.options = {
    enableStrictShellChecks = bool false;
    restartIfChanged = bool true;
    reloadIfChanged = bool false;
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
    wantedBy = unitNames;
    requiredBy = unitNames;
    aliases = unitNames;
  };

  # Units by their kinds, with the modules that all of them have, and those of services.
  units =
    all: services:
    let
      kind = modules: opt (types.attrsOf (types.submodule (all ++ modules))) { };
    in
    {
      services = kind ([ service ] ++ services);
      timers = kind [ { options.timerConfig = section; } ];
      sockets = kind [
        {
          options = {
            listenStreams = strs;
            listenDatagrams = strs;
            socketConfig = section;
          };
        }
      ];
      paths = kind [ { options.pathConfig = section; } ];
      targets = kind [ ];
      slices = opt (types.attrsOf (
        types.submodule [
          unit
          switched
          { options.sliceConfig = section; }
        ]
      )) { };
      mounts = opt (types.listOf (
        types.submodule (
          all
          ++ [
            {
              options = {
                what = mkOption { type = types.str; };
                where = mkOption { type = types.str; };
                type = str "";
                options = opt types.commas "";
                mountConfig = section;
              };
            }
          ]
        )
      )) [ ];
      units = submodules rawUnit;
    };
  stage1 = units [ unit ] [ ];
  stage2 = units [ unit switched ] [ switchedService ];

  file =
    { name, config, ... }:
    {
      options = {
        enable = bool true;
        target = mkOption { type = types.str; };
        text = opt (types.nullOr types.lines) null;
        source = mkOption { type = types.path; };
        mode = str "symlink";
      };
      config.target = lib.mkDefault name;
      config.source = lib.mkIf (config.text != null) (
        lib.mkDefault (pkgs.writeText "etc-${baseNameOf name}" config.text)
      );
    };

  early = fs: fs.neededForBoot || lib.elem fs.mountPoint neededForBoot;
  # Where stage 1 has what will be below / afterwards.
  sysroot = fs: lib.optionalString (config.boot.initrd.systemd.enable && early fs) "/sysroot";
  overlay =
    fs:
    let
      at = dir: sysroot fs + dir;
    in
    lib.mkIf (fs.overlay.lowerdir != null) {
      fsType = "overlay";
      device = lib.mkDefault "overlay";
      depends = map toString (
        fs.overlay.lowerdir
        ++ lib.optionals (fs.overlay.upperdir != null) [
          fs.overlay.upperdir
          fs.overlay.workdir
        ]
      );
      options = [
        "lowerdir=${lib.concatMapStringsSep ":" at fs.overlay.lowerdir}"
      ]
      ++ lib.optionals (fs.overlay.upperdir != null) [
        "upperdir=${at fs.overlay.upperdir}"
        "workdir=${at fs.overlay.workdir}"
      ];
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

  nonEmptyStr = types.addCheck types.str (v: lib.match "[ \t\n]*" v == null);

  fileSystem =
    { name, ... }@fs:
    {
      options = {
        mountPoint = opt (types.addCheck nonEmptyStr (v: lib.match ".+/" v == null)) name;
        device = opt (types.nullOr nonEmptyStr) null;
        label = opt (types.nullOr nonEmptyStr) null;
        # Without a default since 26.05.
        fsType = mkOption { type = nonEmptyStr; };
        options = opt (types.nonEmptyListOf nonEmptyStr) [ "defaults" ];
        depends = strs;
        neededForBoot = bool false;
        autoFormat = bool false;
        autoResize = bool false;
        noCheck = bool false;
        overlay = {
          lowerdir = opt (types.nullOr (
            types.nonEmptyListOf (types.either types.str types.pathInStore)
          )) null;
          upperdir = opt (types.nullOr types.str) null;
          workdir = opt (types.nullOr types.str) null;
        };
      };
      config = lib.mkMerge [
        (overlay fs.config)
        {
          # At the priority of an ordinary definition: who sets the options at that of
          # a default has none of them in the end.
          options = lib.mkMerge [
            (lib.mkIf (early fs.config) [ "x-initrd.mount" ])
            (lib.mkIf (fs.config.depends != [ ]) (
              map (dir: "x-systemd.requires-mounts-for=${sysroot fs.config}${dir}") fs.config.depends
            ))
            (lib.mkIf fs.config.autoResize [ "x-systemd.growfs" ])
            (lib.mkIf fs.config.autoFormat [ "x-systemd.makefs" ])
          ];
          device = lib.mkMerge [
            (lib.mkIf (lib.elem fs.config.fsType [
              "proc"
              "sysfs"
              "tmpfs"
            ]) (lib.mkDefault fs.config.fsType))
            (lib.mkIf (fs.config.label != null) (lib.mkDefault "/dev/disk/by-label/${fs.config.label}"))
          ];
        }
      ];
    };

  user =
    { name, ... }@user:
    let
      text = opt (types.nullOr types.str) null;
      hash = opt (types.nullOr (entry types.str)) null;
      fixed = !config.users.mutableUsers;
    in
    {
      options = {
        description = opt (entry types.str) "";
        extraGroups = strs;
        group = str "";
        home = opt (entry types.path) "/var/empty";
        isNormalUser = bool false;
        isSystemUser = bool false;
        name = mkOption { type = entry types.str; };
        openssh.authorizedKeys.keyFiles = opt (types.listOf types.path) [ ];
        openssh.authorizedKeys.keys = opt (types.listOf types.singleLineStr) [ ];
        hashedPassword = hash;
        hashedPasswordFile = text;
        initialHashedPassword = hash;
        initialPassword = text;
        password = text;
      };
      # Where nobody can change it, the first password is the password.
      config = {
        name = lib.mkDefault name;
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
    assertions = opt (types.listOf types.unspecified) [ ];
    warnings = strs;

    boot = {
      consoleLogLevel = opt types.int 4;
      initrd = {
        availableKernelModules = strs;
        kernelModules = strs;
        supportedFilesystems = opt (types.coercedTo (types.listOf types.str) (l: lib.genAttrs l (_: true)) (
          types.attrsOf types.bool
        )) { };
        systemd = stage1 // {
          enable = bool true;
          emergencyAccess = opt (types.oneOf [
            types.bool
            (types.nullOr (entry types.str))
          ]) false;
          extraBin = opt (types.attrsOf types.path) { };
          initrdBin = packages;
          settings.Manager = configAtoms;
          storePaths = opt (types.listOf types.unspecified) [ ];
          suppressedUnits = strs;
        };
      };
      kernelModules = strs;
      kernelParams = opt (types.listOf (
        types.strMatching ''([^"[:space:]]|"[^"]*")+'' // { name = "kernelParam"; }
      )) [ ];
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
      hostName = opt (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$") "nixos";
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
        virtualHosts = hosts {
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
        hostKeys = opt (types.listOf types.attrs) [
          {
            type = "rsa";
            bits = 4096;
            path = "/etc/ssh/ssh_host_rsa_key";
          }
          {
            type = "ed25519";
            path = "/etc/ssh/ssh_host_ed25519_key";
          }
        ];
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
      autoUpgrade.enable = bool false;
      boot.loader.kernelFile = mkOption { type = types.str; };
      build = opt (types.submodule {
        freeformType = types.lazyAttrsOf (types.uniq types.unspecified);
      }) { };
      checks = packages;
      configurationRevision = opt (types.nullOr types.str) null;
      etc.overlay.enable = bool false;
      etc.overlay.mutable = bool true;
      extraDependencies = opt (types.listOf types.pathInStore) [ ];
      name = mkOption { type = types.str; };
      nixos.label = mkOption { type = types.strMatching "[a-zA-Z0-9:_\\.-]*"; };
      nixos.tags = strs;
      nixos.version = mkOption { type = types.str; };
      stateVersion = mkOption {
        type = types.str;
        default = "26.05";
        defaultText = "the release";
        apply = lib.warnIf (
          options.system.stateVersion.highestPrio == (lib.mkOptionDefault { }).priority
        ) "system.stateVersion is not set";
      };
    };

    systemd = stage2 // {
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
