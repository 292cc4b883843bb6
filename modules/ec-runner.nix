# services.every-channel.runner: the appliance that all runners have in common.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.every-channel.runner;
  prefix = "services.every-channel.runner";

  # What whoever uses this module may set otherwise, be it by a default of his own
  # (nixpkgs' tests give machines names in that way): two defaults that differ are
  # an error.
  fallback = lib.mkOverride 1100;
  # Where somebody's default must not weaken it, and only who says it plainly may.
  firm = lib.mkOverride 900;

  # The inputs of a flake, and theirs, each once: an input may have the flake
  # itself among its own. Without them in the closure the embedded flake could not
  # be evaluated offline.
  inputsOf =
    flake:
    map (input: {
      key = input.outPath;
      inherit input;
    }) (lib.attrValues (flake.inputs or { }));
  inputPaths = map (i: i.key) (
    lib.genericClosure {
      startSet = inputsOf cfg.flake;
      operator = i: inputsOf i.input;
    }
  );

  # What the definitions of an option hold, whatever their priorities: those that
  # give way too, which nobody would miss otherwise.
  said =
    v:
    {
      "if" = lib.optionals (v.condition or false) (said v.content);
      merge = lib.concatMap said v.contents;
      order = said v.content;
      override = said v.content;
    }
    .${v._type or "none"} or (lib.toList v);
  settings = lib.filter lib.isAttrs options.nix.settings.definitions;
  saidOf = key: lib.concatMap (s: lib.optionals (s ? ${key}) (said s.${key})) settings;

  caches = lib.attrNames cfg.substituters;
  # What may be said, by nix.conf's name: ours, and what NixOS says by itself.
  only = {
    substituters = caches ++ map (url: "${url}/") caches ++ [ "https://cache.nixos.org/" ];
    trusted-public-keys = lib.attrValues cfg.substituters ++ [
      "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
    ];
    trusted-users = [ "root" ];
  }
  // lib.genAttrs [
    "trusted-substituters"
    "extra-substituters"
    "extra-trusted-public-keys"
    "extra-trusted-substituters"
    "extra-trusted-users"
    # Older names of the same.
    "binary-caches"
    "binary-cache-public-keys"
    "trusted-binary-caches"
    "extra-binary-caches"
    "extra-binary-cache-public-keys"
    "extra-trusted-binary-caches"
  ] (_: [ ]);
  # "key: value" of what is said beyond that.
  others = lib.concatLists (
    lib.mapAttrsToList (
      key: allowed:
      map (v: "${key}: ${toString v}") (lib.subtractLists (allowed ++ [ null ]) (saidOf key))
    ) only
  );
  # The same in the text that NixOS adds to nix.conf as it is.
  otherLines = lib.filter (
    line: lib.any (key: lib.match "${key}[[:space:]]*=.*" line != null) (lib.attrNames only)
  ) (map lib.trim (lib.splitString "\n" config.nix.extraOptions));

  # From 26.11 on, nixpkgs has journald's own names (NixOS/nixpkgs#536538).
  journald =
    if options.services.journald ? settings then
      {
        settings.Journal = {
          Storage = firm "persistent";
          RateLimitIntervalSec = firm "30s";
          RateLimitBurst = firm 5000;
          SystemMaxUse = firm cfg.journalMaxUse;
          SystemKeepFree = firm "1G";
          MaxRetentionSec = firm "3month";
        };
      }
    else
      {
        storage = firm "persistent";
        rateLimitInterval = firm "30s";
        rateLimitBurst = firm 5000;
        extraConfig = ''
          SystemMaxUse=${cfg.journalMaxUse}
          SystemKeepFree=1G
          MaxRetentionSec=3month
        '';
      };

  # Whoever can give an empty password, or none, is let in by it.
  openAccounts = lib.attrNames (
    lib.filterAttrs (
      _: user:
      lib.any (p: (user.${p} or null) == "") [
        "password"
        "hashedPassword"
        "initialPassword"
        "initialHashedPassword"
      ]
    ) config.users.users
  );
  # What is in such a file nobody sees here; on the machine it is root's affair.
  passwordFiles = lib.attrNames (
    lib.filterAttrs (
      _: user: lib.hasPrefix builtins.storeDir (toString (user.hashedPasswordFile or null))
    ) config.users.users
  );
in
{
  _class = "nixos";

  options.services.every-channel.runner = {
    enable = lib.mkEnableOption "the baseline of an every.channel runner";
    flake = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "self";
      description = ''
        The flake of this machine's configuration. Its source is linked to
        {file}`/etc/every-channel/flake`. It and all its inputs are part of the system, so
        the machine can evaluate itself without a network.
      '';
    };
    authorizedKeys = mkOption {
      # A path, or a private key, would shut everybody out.
      type = types.listOf (
        types.strMatching "([^[:cntrl:]]* )?(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+( [^[:cntrl:]]*)?"
      );
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… operator" ];
      description = ''
        SSH keys that may log in as root; there is no other login. Without a key
        nobody can log in, and the machine still does its work.
      '';
    };
    substituters = mkOption {
      type = types.attrsOf (types.strMatching "[^:[:space:]]+:[A-Za-z0-9+/]+=*");
      default = {
        "https://cache.nixos.org" = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
      };
      example = { };
      description = ''
        Binary caches, each with the public key that must have signed its paths. No
        other cache is used, not even Nix's default. `{ }` builds everything here.
      '';
    };
    gcOlderThan = mkOption {
      type = types.strMatching "[1-9][0-9]*d";
      default = "30d";
      description = ''
        Age from which the weekly garbage collection removes earlier systems. The
        current and the booted system always stay, with the flake, its inputs, and
        the build inputs of systems that were built here.
      '';
    };
    journalMaxUse = mkOption {
      type = types.strMatching "[1-9][0-9]*[KMG]";
      default = "1G";
      description = "Size that the journal may have on the disk.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.flake != null;
        message = "${prefix}.flake is not set: give the flake that this configuration is from (in its outputs: ${prefix}.flake = self).";
      }
      {
        assertion = openAccounts == [ ];
        message = "${prefix}: an account with an empty password lets everybody in: users.users.{${lib.concatStringsSep "," openAccounts}}.";
      }
      {
        assertion = (config.services.getty.autologinUser or null) == null;
        message = "${prefix}: services.getty.autologinUser lets in whoever stands before the machine.";
      }
      {
        # Unset, it is sshd's own default, which is on.
        assertion = config.services.openssh.settings.PasswordAuthentication == false;
        message = "${prefix}: services.openssh.settings.PasswordAuthentication must stay off: runners are logged in to by key.";
      }
      {
        assertion = config.services.openssh.settings.KbdInteractiveAuthentication == false;
        message = "${prefix}: services.openssh.settings.KbdInteractiveAuthentication must stay off: it asks for passwords too.";
      }
      {
        assertion = others == [ ];
        message = "${prefix}: nix.settings.{${lib.concatStringsSep ", " others}}: caches and their keys are those of ${prefix}.substituters alone, and none but root is trusted.";
      }
      {
        assertion = otherLines == [ ];
        message = "${prefix}: nix.extraOptions: ${lib.concatStringsSep ", " otherLines}: caches and their keys are those of ${prefix}.substituters alone, and none but root is trusted.";
      }
      {
        assertion = passwordFiles == [ ];
        message = "${prefix}: an account with a password from the store, where everybody can read it, and which may be empty (as on nixpkgs' test machines: lib.mkForce null): users.users.{${lib.concatStringsSep "," passwordFiles}}.hashedPasswordFile.";
      }
    ];

    # --- the source -----------------------------------------------------------

    environment.etc."every-channel/flake" = lib.mkIf (cfg.flake != null) { source = cfg.flake; };
    system.extraDependencies = lib.optionals (cfg.flake != null) inputPaths;
    # A hash of the content, so that it is the same for whoever builds this from
    # the copy in the system; the commit's would not be.
    system.configurationRevision = lib.mkIf (cfg.flake != null) (fallback (cfg.flake.narHash or null));

    # --- the system -----------------------------------------------------------

    # One system for all machines: a name of its own, a machine has from DHCP.
    networking.hostName = fallback "";
    # networkd has no right to set a name. It asks systemd-hostnamed, and that asks
    # polkit: without it the answer is no (NixOS/nixpkgs#364198).
    security.polkit.enable = lib.mkIf (config.networking.hostName == "") (fallback true);
    system.name = fallback "ec-runner";
    system.stateVersion = fallback "26.05";
    time.timeZone = fallback "UTC";
    i18n.defaultLocale = fallback "C.UTF-8";
    services.timesyncd.enable = fallback true;

    documentation.enable = fallback false;
    environment.defaultPackages = fallback [ ];
    programs.command-not-found.enable = fallback false;
    # What does not come up, or hangs, boots again.
    boot.kernelParams = [ "panic=10" ];
    systemd.settings.Manager.RuntimeWatchdogSec = fallback "1min";

    # --- network --------------------------------------------------------------

    networking.useNetworkd = fallback true;
    networking.useDHCP = fallback true;
    networking.firewall.enable = firm true;

    # --- who gets in ----------------------------------------------------------

    users.mutableUsers = false;
    users.users.root = {
      # No password has this hash. (With "!" in its place some sshd would refuse
      # keys as well.)
      hashedPassword = fallback "*";
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
    };
    # NixOS refuses a system that nobody can log in to, and here that is meant.
    users.allowNoPasswordLogin = fallback (cfg.authorizedKeys == [ ]);
    security.sudo.enable = fallback false;
    # An initrd that fails stops, rather than giving a root shell to whoever
    # stands before the machine. The ISO's module wants the contrary.
    boot.initrd.systemd.emergencyAccess = lib.mkForce false;
    # Stage 2 goes on without what did not come up: nobody is there to repair it.
    systemd.enableEmergencyMode = fallback false;
    services.openssh = {
      enable = true;
      # Keys are part of the system; a home directory is not.
      authorizedKeysInHomedir = false;
      settings = {
        PasswordAuthentication = fallback false;
        KbdInteractiveAuthentication = firm false;
        PermitRootLogin = firm "prohibit-password";
        X11Forwarding = firm false;
      };
    };

    # --- journal --------------------------------------------------------------

    services.journald = journald;

    # --- Nix ------------------------------------------------------------------

    nix = {
      channel.enable = false;
      settings = {
        experimental-features = [
          "nix-command"
          "flakes"
        ];
        # Above the definitions of NixOS, which would add its own cache.
        substituters = lib.mkForce (lib.attrNames cfg.substituters);
        trusted-public-keys = lib.mkForce (lib.attrValues cfg.substituters);
        trusted-substituters = lib.mkForce [ ];
        trusted-users = lib.mkForce [ "root" ];
        # Services need no builds. (What verifies is root.)
        allowed-users = fallback [ "root" ];
        require-sigs = true;
        sandbox = true;
        accept-flake-config = false;
        # A name that no flake of ours uses must not be asked for in the network.
        flake-registry = "";
        connect-timeout = 10;
        # What was built here keeps what it was built from: a rebuild of it needs
        # no network.
        keep-derivations = true;
        keep-outputs = true;
      };
      gc = {
        automatic = fallback true;
        dates = fallback "weekly";
        randomizedDelaySec = fallback "6h";
        options = "--delete-older-than ${cfg.gcOlderThan}";
      };
    };
  };
}
