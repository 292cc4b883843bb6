# services.every-channel.ec-verify: the verifier. The units are those of the
# package (systemd/ in this repository), which run on any systemd machine; here
# stands only what NixOS knows better.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.every-channel.ec-verify;
  prefix = "services.every-channel.ec-verify";
  format = pkgs.formats.json { };

  rendered = format.generate "ec-verify.json" cfg.settings;
  # The program itself says whether its configuration is valid, when the system is
  # built and not when it runs. Where it can't be run, another machine's is built.
  checked =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "ec-verify-config.json" { } ''
        ${lib.getExe cfg.package} config check --file-only ${rendered}
        cp ${rendered} $out
      ''
    else
      rendered;

  rebuilds = (cfg.settings.rebuild.choice or "none") != "none";
  secrets = import ./secrets.nix { inherit lib; };

  stateDir = "/var/lib/ec-verify";
  # What the sandboxes of the units must let them write to beside it.
  metricsFile = cfg.settings.metrics.file or null;
  reportDir = cfg.settings.report.dir or null;
  directories = lib.unique (
    lib.optional (lib.isString metricsFile) (dirOf metricsFile)
    ++ lib.optional (lib.isString reportDir && !lib.hasPrefix "${stateDir}/" reportDir) reportDir
  );
  seesFirewall = lib.elem "firewall" cfg.settings.machine.parts;
  # The units that verify, and so report.
  verifying = lib.genAttrs [
    "ec-verify"
    "ec-verify-rebuild"
    "ec-verify-boot"
  ];
in
{
  _class = "nixos";

  options.services.every-channel.ec-verify = {
    enable = lib.mkEnableOption "verifying, by a timer, that this machine is a signed release";
    package = mkOption {
      type = types.package;
      defaultText = lib.literalMD "`packages.SYSTEM.ec-verify` of the flake that the module is from";
      description = "The package with the program and its units.";
    };
    settings = mkOption {
      default = { };
      example = lib.literalExpression ''
        {
          release.source = [ "https://forge.example.org/every-channel/runner/releases/download" ];
          release.accept = [ "latest" ];
          trust.keys = [ { name = "ci-2026"; file = ./ci-2026.pub; } ];
          rebuild.choice = "config";
        }
      '';
      description = ''
        The configuration file, `/etc/ec-verify/config.json`, with the program's own
        key names: `docs/configuration.md` lists them. NixOS knows only the options
        below; every other key is passed on unchanged. The program checks the whole
        file when the system is built.
      '';
      type = types.submodule {
        freeformType = format.type;
        options = {
          nix.binDir = mkOption {
            type = types.path;
            default = "${config.nix.package}/bin";
            defaultText = lib.literalExpression ''"''${config.nix.package}/bin"'';
            description = "Directory of the nix programs.";
          };
          machine.parts = mkOption {
            type = types.listOf types.str;
            # What the release says of a machine needs no list by hand. "store" only gives
            # notices, for a walk through all of it; "written" finds what others keep in
            # homes.
            default = lib.optional (!(config.system.etc.overlay.enable or false)) "etc" ++ [
              "units"
              "code"
              "sockets"
              "mounts"
              "firewall"
            ];
            defaultText = lib.literalMD "`[ \"etc\" \"units\" \"code\" \"sockets\" \"mounts\" \"firewall\" ]`, without `etc` where `system.etc.overlay` is enabled";
            example = [
              "etc"
              "units"
              "code"
            ];
            description = "Parts of the running machine that are checked beside its store: `docs/threat-model.md`. They give the verifying units the capabilities to look at other processes, and `firewall` the network of the machine with the capability to see its rules; with `[ ]` they have none of these. Allow in `machine.allow` what a machine has by decision.";
          };
          machine.allow = mkOption {
            default = [ ];
            example = [
              {
                match = "/usr/local/bin/";
                reason = "tools of the field team, TICKET-42";
                until = "2026-12-31";
              }
            ];
            description = "Intended differences of the running machine. The configuration's own units, users, entries of `/etc` and mounts need no entry: the release has them. A module whose service writes elsewhere adds its own entry here when it is enabled. `ec-verify machine learn` prints a first list, for review.";
            type = types.listOf (
              types.submodule {
                options = {
                  match = mkOption {
                    type = types.str;
                    description = "Path of the finding, or `PATH:FIELD`; with a slash at its end a directory and everything beneath it: `docs/configuration.md`.";
                  };
                  cause = mkOption {
                    type = types.str;
                    default = "";
                    description = "The only cause that is allowed, as in the report; mounts and accounts need one.";
                  };
                  value = mkOption {
                    type = types.str;
                    default = "";
                    description = "The only value that is allowed; accounts need one.";
                  };
                  reason = mkOption {
                    type = types.str;
                    description = "The reason, in one line for people.";
                  };
                  until = mkOption {
                    type = types.nullOr (types.strMatching "[0-9]{4}-[0-9]{2}-[0-9]{2}");
                    default = null;
                    description = "The last day on which it counts, in UTC; `null` for no end.";
                  };
                };
              }
            );
          };
          release.source = mkOption {
            type = types.listOf types.str;
            default = [ ];
            example = [ "https://forge.example.org/every-channel/runner/releases/download" ];
            description = "The sources of releases: directories, `file://` URLs and forges, tried in this order.";
          };
          release.accept = mkOption {
            type = types.listOf types.str;
            default = [ ];
            example = [ "boot-v2026.02.28" ];
            description = "The tags that this machine may run; `latest` is the newest that the sources have.";
          };
          trust.keys = mkOption {
            type = types.listOf format.type;
            default = [ ];
            example = lib.literalExpression ''[ { name = "ci-2026"; file = ./ci-2026.pub; } ]'';
            description = "Public keys that may sign releases. A file given as a path becomes part of the system.";
          };
        };
      };
    };
    tokenFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/var/lib/secrets/forge-token";
      description = ''
        A file on the machine with an access token for private repositories. The
        service manager passes it only to the fetching unit, as a credential.
      '';
    };
    reportKeyFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/var/lib/secrets/ec-verify-report-key";
      description = ''
        A file on the machine with the key that signs reports, as `systemd-creds
        encrypt --name=ec-verify-report-key` writes it: `docs/monitoring.md`. It
        must be in a place that persists, and `/etc` does not.
      '';
    };
    metricsDirectory = mkOption {
      type = types.nullOr (types.strMatching "/[^[:space:]:%]+");
      default = null;
      example = "/var/lib/node-exporter-textfiles";
      description = ''
        The directory in which each run writes `ec-verify.prom`, a Prometheus
        textfile: that of node_exporter's textfile collector. It is created if it is
        missing.
      '';
    };
    bootCheck.enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether a counted boot is good only if `ec-verify-boot.service` finds the
        system verified. Otherwise the loader goes back to an older entry when the
        tries are used up: `docs/operating.md`. This requires a loader that counts
        boots, such as systemd-boot with
        `boot.loader.systemd-boot.bootCounting.enable`, and the accepted release in
        the cache before the reboot.
      '';
    };
    gate.enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the system profile is read-only for every program except `ec-verify
        switch`. Programs that set it with nix-env, such as nixos-rebuild, deploy-rs
        and colmena, then fail before they have changed anything: `docs/gate.md`.
        This stops these programs, not root.
      '';
    };
    gate.comin.enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether comin (0.10 or later) deploys only generations that `ec-verify gate
        comin` has confirmed, because their systems are verified. comin's state is
        moved to `/var/lib/private/comin`, which only root can enter, because it
        includes a socket with which any user could confirm: `docs/gate.md`.
      '';
    };
    onCalendar = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "*-*-* 04:00:00";
      description = "When to verify, as a calendar event of `systemd.time(7)`; `null` for daily. The machine is also verified after each boot. Each machine adds its own fixed delay of up to an hour.";
    };
    rebuildOnCalendar = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "Sat *-*-* 02:00:00";
      description = "When to verify with a rebuild, if `settings.rebuild.choice` requests one; `null` for weekly.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = !(lib.elem "etc" cfg.settings.machine.parts && (config.system.etc.overlay.enable or false));
        message = "${prefix}.settings.machine.parts: with system.etc.overlay.enable there is no /etc/static, and the part etc finds all of /etc altered; leave it out.";
      }
      {
        assertion = cfg.settings.release.source != [ ];
        message = "${prefix}.settings.release.source is empty: say where releases come from.";
      }
      {
        assertion = cfg.settings.release.accept != [ ];
        message = "${prefix}.settings.release.accept is empty: name the tags that this machine may run, or \"latest\".";
      }
      {
        assertion =
          cfg.settings.trust.keys != [ ]
          || cfg.settings.trust.identities or [ ] != [ ]
          || cfg.settings.unsafeUnsigned or false;
        message = "${prefix}.settings.trust has neither keys nor identities: without one no release can be trusted.";
      }
      {
        # The units have their names of it in a dozen lines, and a line that were
        # forgotten would be a hole.
        assertion = cfg.settings.stateDir or stateDir == stateDir;
        message = "${prefix}.settings.stateDir must stay ${stateDir}, the one directory that the units may write to: have fileSystems.\"${stateDir}\" where the state is to lie elsewhere.";
      }
      {
        assertion = !(cfg.gate.enable && config.system.autoUpgrade.enable);
        message = "${prefix}.gate.enable: system.autoUpgrade sets the system profile itself, which the gate refuses; have a timer run `ec-verify switch` in its place.";
      }
      {
        assertion = cfg.gate.comin.enable -> config.services.comin.enable or false;
        message = "${prefix}.gate.comin.enable: there is no comin here (services.comin.enable).";
      }
      {
        assertion =
          cfg.gate.comin.enable -> config.services.comin.deployConfirmer.mode or "manual" == "manual";
        message = "${prefix}.gate.comin.enable: services.comin.deployConfirmer.mode is not \"manual\", so that comin waits for nobody.";
      }
      {
        assertion = lib.all (dir: lib.match "/[^[:space:][:cntrl:]:%\"'\\]+" dir != null) directories;
        message = "${prefix}.settings: the directories of metrics.file and report.dir (${lib.concatStringsSep ", " directories}) are to be absolute paths without spaces, quotes, backslashes, : and %, for systemd's sake.";
      }
    ]
    ++ secrets.assertions "${prefix}.tokenFile" cfg.tokenFile
    ++ secrets.assertions "${prefix}.settings.release.tokenFile" (
      cfg.settings.release.tokenFile or null
    )
    ++ secrets.assertions "${prefix}.reportKeyFile" cfg.reportKeyFile
    ++ secrets.assertions "${prefix}.settings.report.keyFile" (cfg.settings.report.keyFile or null);

    system.checks =
      import ./calendar.nix
        {
          inherit lib pkgs;
          systemd = config.systemd.package;
        }
        {
          "${prefix}.onCalendar" = cfg.onCalendar;
          "${prefix}.rebuildOnCalendar" = cfg.rebuildOnCalendar;
        };

    environment.systemPackages = [ cfg.package ];
    environment.etc."ec-verify/config.json".source = checked;
    services =
      lib.optionalAttrs (options.services ? comin) {
        comin.deployConfirmer.mode = lib.mkIf cfg.gate.comin.enable "manual";
      }
      // {
        every-channel.ec-verify.settings = {
          release = lib.optionalAttrs (cfg.tokenFile != null) {
            tokenFile = "/run/credentials/ec-verify-fetch.service/token";
          };
          metrics = lib.mkIf (cfg.metricsDirectory != null) {
            file = "${cfg.metricsDirectory}/ec-verify.prom";
          };
        };
      };

    systemd = {
      packages = [ cfg.package ];
      # journalctl -x: systemd reads its own catalogs and those of /usr/local, and
      # on NixOS its own are in its package.
      tmpfiles.rules = [
        "L+ /usr/local/lib/systemd/catalog/ec-verify.catalog - - - - ${cfg.package}/lib/systemd/catalog/ec-verify.catalog"
      ]
      ++ map (dir: "d ${dir} 0755 root root -") directories;
      # NixOS does not act on [Install].
      timers = {
        ec-verify = {
          wantedBy = [ "timers.target" ];
          # The empty value takes all that the package's timer has, in whichever
          # key it stands; this one is the first of them in the file.
          timerConfig = lib.optionalAttrs (cfg.onCalendar != null) {
            OnActiveSec = [
              ""
              "1s"
            ];
            OnCalendar = cfg.onCalendar;
          };
        };
        ec-verify-rebuild = {
          wantedBy = lib.optional rebuilds "timers.target";
          timerConfig = lib.optionalAttrs (cfg.rebuildOnCalendar != null) {
            OnActiveSec = "";
            OnCalendar = cfg.rebuildOnCalendar;
          };
        };
      };
      services =
        verifying (name: {
          # A new system does not end the run that is under way; the next one is
          # the new program's.
          restartIfChanged = false;
          requiredBy = lib.optional (name == "ec-verify-boot" && cfg.bootCheck.enable) "boot-complete.target";
          serviceConfig =
            lib.optionalAttrs (cfg.reportKeyFile != null) {
              LoadCredentialEncrypted = [ (secrets.credential "ec-verify-report-key" cfg.reportKeyFile) ];
            }
            // lib.optionalAttrs (directories != [ ]) {
              ReadWritePaths = directories;
            }
            # The machine as its first process sees it, which is not looked at while it boots.
            // lib.optionalAttrs (cfg.settings.machine.parts != [ ] && name != "ec-verify-boot") {
              CapabilityBoundingSet = [
                "CAP_SYS_PTRACE"
                "CAP_CHECKPOINT_RESTORE"
              ]
              ++ lib.optional seesFirewall "CAP_NET_ADMIN";
            }
            # The kernel shows its rules only to who may change them, and those of the
            # network that the unit has. No packet may leave it all the same: the
            # package's unit has IPAddressDeny=any, and no family of IP.
            // lib.optionalAttrs (seesFirewall && name != "ec-verify-boot") {
              PrivateNetwork = false;
              RestrictAddressFamilies = [ "AF_NETLINK" ];
            };
        })
        // {
          ec-verify-catalog = {
            description = "Add ec-verify's messages to the journal's catalog";
            wantedBy = [ "multi-user.target" ];
            after = [ "systemd-tmpfiles-setup.service" ];
            # With another package, there are other messages.
            restartTriggers = [ cfg.package ];
            serviceConfig = {
              Type = "oneshot";
              RemainAfterExit = true;
              ExecStart = "${config.systemd.package}/bin/journalctl --update-catalog";
            };
          };
          ec-verify-gate = {
            wantedBy = lib.optional cfg.gate.enable "multi-user.target";
            # It would be open meanwhile.
            restartIfChanged = false;
            serviceConfig = lib.optionalAttrs cfg.gate.comin.enable {
              ExecStart = [
                ""
                "${lib.getExe cfg.package} gate close --comin"
              ];
            };
          };
          ec-verify-gate-comin.wantedBy = lib.optional cfg.gate.comin.enable "multi-user.target";
          ec-verify-fetch = {
            restartIfChanged = false;
            serviceConfig = lib.optionalAttrs (cfg.tokenFile != null) {
              LoadCredential = [ (secrets.credential "token" cfg.tokenFile) ];
            };
          };
        }
        // lib.optionalAttrs cfg.gate.comin.enable {
          # comin makes its state readable to all, and its socket writable to all, each
          # time it starts; a directory above them that is closed stays so.
          comin.preStart = ''
            if [ ! -L /var/lib/comin ]; then
              ${pkgs.coreutils}/bin/mkdir -p -m 0700 /var/lib/private
              if [ -e /var/lib/comin ]; then
                ${pkgs.coreutils}/bin/mv -nT /var/lib/comin /var/lib/private/comin
              fi
              ${pkgs.coreutils}/bin/mkdir -p /var/lib/private/comin
              ${pkgs.coreutils}/bin/ln -sT private/comin /var/lib/comin
            fi
            ${pkgs.coreutils}/bin/chmod 0700 /var/lib/private
          '';
        }
        // lib.optionalAttrs (cfg.gate.enable && config.nix.gc.automatic) {
          # nix-collect-garbage passes over profiles that it can't write to, and says
          # nothing: generations would add up. It sees them writable, and nobody else.
          nix-gc.script = lib.mkForce ''
            if [ "''${1:-}" != alone ]; then
              exec ${pkgs.util-linux}/bin/unshare --mount -- "$0" alone
            fi
            if ${pkgs.util-linux}/bin/mountpoint -q /nix/var/nix/profiles; then
              ${pkgs.util-linux}/bin/mount -o remount,bind,rw /nix/var/nix/profiles
            fi
            exec ${config.nix.package}/bin/nix-collect-garbage ${config.nix.gc.options}
          '';
        };
    };
  };
}
