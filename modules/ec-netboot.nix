# services.every-channel.netboot: a boot host. Machines boot from it the release
# that ec-verify has verified, and none other. What the servers are configured
# with, and the units, are in ec-netboot/; here stands what NixOS knows.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.every-channel.netboot;
  prefix = "services.every-channel.netboot";
  netboot = import ./ec-netboot;
  inherit (netboot) address paths;

  # Where another nginx, NixOS' own, listens. As nixpkgs has it
  # (services/web-servers/nginx), the lines are those of the host's listen, or else
  # defaultListen, or else the host's addresses, or the defaults for all hosts. But
  # for the first, each is one of plain HTTP, of TLS, or where it does not say both,
  # as far as the host has them, at its port or the default one.
  nginx = config.services.nginx;
  listens =
    host:
    let
      onlySSL = host.onlySSL || host.enableSSL or false;
      ssl = onlySSL || host.addSSL || host.forceSSL || host.rejectSSL;
      lines =
        if nginx.defaultListen != [ ] then
          nginx.defaultListen
        else
          map (addr: { inherit addr; }) (
            if host.listenAddresses != [ ] then host.listenAddresses else nginx.defaultListenAddresses
          );
      of =
        isSSL: default:
        map (line: line // { port = if line.port or null != null then line.port else default; }) (
          lib.filter (line: line.ssl or null != !isSSL) lines
        );
    in
    if host.listen != [ ] then
      host.listen
    else
      lib.optionals ssl (of true nginx.defaultSSLListenPort)
      ++ lib.optionals (!onlySSL) (of false nginx.defaultHTTPListenPort);
  # Without a port, it is nginx' own default of 80.
  clashes =
    at:
    lib.elem at.addr [
      "0.0.0.0"
      "*"
      cfg.listenIP
    ]
    && lib.elem (at.port or null) [
      null
      80
    ];
  taken = lib.attrNames (
    lib.filterAttrs (_: host: lib.any clashes (listens host)) nginx.virtualHosts
  );

  host = if cfg.hostname != null then cfg.hostname else cfg.listenIP;
  secrets = import ./secrets.nix { inherit lib; };

  source =
    if cfg.release.source != [ ] then
      cfg.release.source
    else
      [ "https://${toString cfg.release.host}/${toString cfg.release.repo}/releases/download" ];

  # The names that ec-verify has for them: docs/configuration.md.
  verifyConfig = (pkgs.formats.json { }).generate "every-channel-netboot.json" {
    stateDir = paths.verifyState;
    release = {
      inherit source;
      # A tag that is named here may also be an older one: that is how a release
      # is rolled back.
      accept = [ cfg.release.tag ];
    }
    // lib.optionalAttrs (cfg.release.tokenFile != null) { tokenFile = paths.releaseTokenFile; };
    trust = { inherit (cfg.release) keys; };
  };
  # The program itself says whether its configuration is valid, when the system is
  # built. Where it can't be run, another machine's is built.
  checkedConfig =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "every-channel-netboot-checked.json" { } ''
        ${lib.getExe cfg.package} config check --file-only ${verifyConfig}
        cp ${verifyConfig} $out
      ''
    else
      verifyConfig;

  bootScript = pkgs.writeText "autoexec.ipxe" (netboot.bootScript { inherit (cfg) listenIP; });
  ipxe = cfg.ipxe.package.override { embedScript = bootScript; };
  efiFile = if cfg.ipxe.efiFile != null then cfg.ipxe.efiFile else "${ipxe}/snp.efi";
  # There is none for, and none built on, anything but x86.
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
  biosFile = if cfg.ipxe.biosFile != null then cfg.ipxe.biosFile else "${ipxe}/undionly.kpxe";
  biosName = "ec-undionly.kpxe";
  servesBios = isx86_64 || cfg.ipxe.biosFile != null;

  rendered = netboot.units {
    ecVerify = lib.getExe cfg.package;
    nginx = lib.getExe cfg.nginxPackage;
    dnsmasq = lib.getExe cfg.dnsmasqPackage;
    verifyConfig = "${checkedConfig}";
    nginxConf = "${pkgs.writeText "every-channel-netboot-nginx.conf" (
      netboot.nginxConf {
        inherit (cfg) listenIP;
        hostname = if cfg.hostname != null then cfg.hostname else "_";
        allowedCIDRs = cfg.httpAllowedCIDRs;
        wwwDir = paths.www;
        runtimeDir = paths.runtime;
      }
    )}";
    dnsmasqConf = "${pkgs.writeText "every-channel-netboot-dnsmasq.conf" (
      netboot.dnsmasqConf {
        inherit (cfg) interface listenIP;
        inherit (paths) tftpRoot pidFile;
        proxyDhcp =
          if cfg.proxyDhcp.enable then
            {
              inherit (cfg.proxyDhcp) subnet;
              bios = if servesBios then biosName else null;
              efi = cfg.tftpBootFilename;
              efiArchitectures = netboot.efiArchitectures.${if isx86_64 then "x86_64" else "aarch64"};
            }
          else
            null;
      }
    )}";
    url = "http://${host}";
    inherit (cfg.release) tag tarball;
    tftpFiles = {
      ${cfg.tftpBootFilename} = "${efiFile}";
      # What a stock ipxe.efi asks for by itself.
      "autoexec.ipxe" = "${bootScript}";
    }
    // lib.optionalAttrs servesBios { ${biosName} = "${biosFile}"; };
    chainTokenFile = toString cfg.chainTokenFile;
    releaseTokenFile = if cfg.release.tokenFile == null then null else toString cfg.release.tokenFile;
    proxyDhcp = cfg.proxyDhcp.enable;
    refresh = cfg.release.refresh;
  };

  addressType = types.addCheck types.str address.isAddress // {
    description = "IPv4 address";
  };
  networkType = types.addCheck types.str address.isNetwork // {
    description = "IPv4 network such as 10.0.0.0/24, host bits 0";
  };
in
{
  _class = "nixos";

  options.services.every-channel.netboot = {
    enable = lib.mkEnableOption "serving verified releases to machines that boot from the network";
    package = mkOption {
      type = types.package;
      defaultText = lib.literalMD "`packages.SYSTEM.ec-verify` of the flake that the module is from";
      description = "The package with ec-verify, which verifies and stages releases.";
    };
    nginxPackage = lib.mkPackageOption pkgs "nginx" { };
    dnsmasqPackage = lib.mkPackageOption pkgs "dnsmasq" { };
    listenIP = mkOption {
      type = addressType;
      example = "10.0.0.2";
      description = ''
        The address of this host from which machines boot. No other address serves
        them, except that with `proxyDhcp` TFTP also answers at the other addresses
        of `interface`.
      '';
    };
    interface = mkOption {
      type = types.strMatching "[A-Za-z0-9_.-]{1,15}";
      example = "enp1s0";
      description = "The network card with that address. TFTP, and ProxyDHCP, are served on no other.";
    };
    hostname = mkOption {
      type = types.nullOr (
        types.strMatching "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
      );
      default = null;
      example = "boot.example.org";
      description = ''
        The name by which machines reach this host over HTTP; `null` for `listenIP`.
        The DNS server from their DHCP must know it, so the address is the safer
        choice.
      '';
    };
    tftpBootFilename = mkOption {
      type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]{0,99}";
      default = "ec-ipxe.efi";
      description = "The name of iPXE for UEFI, as in DHCP's option 67 (UniFi: Network Boot, Filename).";
    };
    httpAllowedCIDRs = mkOption {
      type = types.listOf networkType;
      example = [ "10.0.0.0/24" ];
      description = "The networks whose machines are served; all others get 403.";
    };
    chainTokenFile = mkOption {
      type = types.path;
      example = "/var/lib/secrets/chain-token";
      description = ''
        A file on the machine with the token in the URLs: one line of 16 to 128
        letters, digits and `. _ ~ -`, for example from `head -c 16 /dev/urandom |
        basenc --base16`. It keeps out scanners; anyone who can use TFTP can read
        it.
      '';
    };
    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = "Open the firewall of `interface` for these services.";
    };

    proxyDhcp = {
      enable = lib.mkEnableOption ''
        answering DHCP as a proxy: the network's own DHCP server still assigns
        addresses, but does not mention booting. Do not combine it with options 66
        and 67'';
      subnet = mkOption {
        type = types.nullOr networkType;
        default = null;
        example = "10.0.0.0/24";
        description = "The network of `listenIP`, whose machines get these answers.";
      };
    };

    release = {
      host = mkOption {
        type = types.nullOr (types.strMatching "[A-Za-z0-9.-]+(:[0-9]+)?");
        default = null;
        example = "forge.example.org";
        description = "The forge with the releases.";
      };
      repo = mkOption {
        type = types.nullOr (types.strMatching "[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+");
        default = null;
        example = "every-channel/runner";
        description = "The repository there, as OWNER/REPO.";
      };
      source = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "/srv/releases" ];
        description = "The sources of releases, instead of `host` and `repo`: directories, `file://` URLs and forges, tried in this order.";
      };
      tag = mkOption {
        type = types.strMatching "[A-Za-z0-9_+][A-Za-z0-9._+-]{0,127}";
        default = "latest";
        example = "boot-v2026.02.28";
        description = ''
          The release that machines boot; `latest` for the newest of the form
          `boot-v…` that the forge has. With `latest` an older release is never
          staged after a newer one; a tag that is named here may be.
        '';
      };
      tarball = mkOption {
        type = types.strMatching "[A-Za-z0-9._+~,@*?-]+";
        default = "ec-runner-${pkgs.stdenv.hostPlatform.parsed.cpu.name}-netboot-*.tar.gz";
        defaultText = lib.literalMD "`ec-runner-CPU-netboot-*.tar.gz`, CPU being that of this host";
        example = "ec-runner-aarch64-netboot-*.tar.gz";
        description = "The pattern of the name of the netboot bundle among the release's assets.";
      };
      tokenFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/forge-token";
        description = "A file on the machine with an access token for a private repository.";
      };
      keys = mkOption {
        type = types.listOf (pkgs.formats.json { }).type;
        example = lib.literalExpression ''[ { name = "ci-2026"; file = ./ci-2026.pub; } ]'';
        description = "The public keys of trusted releases: `trust.keys` of `docs/trust.md`.";
      };
      refresh = mkOption {
        type = types.nullOr types.singleLineStr;
        default = "hourly";
        example = "*-*-* 04:00:00";
        description = "When to look for a new release and check the staged one, as a calendar event of `systemd.time(7)`; `null` for at boot only.";
      };
    };

    ipxe = {
      package = lib.mkPackageOption pkgs "ipxe" { };
      efiFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = ''
          iPXE for UEFI, instead of the one built from `ipxe.package` with the script
          inside. A stock one from 2022 or later works too: it requests
          `autoexec.ipxe`, which is served.
        '';
      };
      biosFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = ''
          iPXE for a BIOS, instead of the built one. A stock one needs `proxyDhcp`:
          with options 66 and 67 it would load itself again and again. On a host other
          than x86 there is no built one.
        '';
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.httpAllowedCIDRs != [ ];
        message = "${prefix}.httpAllowedCIDRs is empty: name the networks whose machines boot from here.";
      }
      {
        assertion = cfg.release.keys != [ ];
        message = "${prefix}.release.keys is empty: without a key no release can be trusted, and none is served.";
      }
      {
        assertion =
          if cfg.release.source == [ ] then
            cfg.release.host != null && cfg.release.repo != null
          else
            cfg.release.host == null && cfg.release.repo == null;
        message = "set ${prefix}.release.host and ${prefix}.release.repo, or else ${prefix}.release.source, which takes the place of both.";
      }
      {
        assertion = cfg.proxyDhcp.enable -> cfg.proxyDhcp.subnet != null;
        message = "${prefix}.proxyDhcp.enable needs ${prefix}.proxyDhcp.subnet: the network of ${prefix}.listenIP.";
      }
      {
        assertion =
          cfg.proxyDhcp.enable && cfg.proxyDhcp.subnet != null
          -> address.contains cfg.proxyDhcp.subnet cfg.listenIP;
        message = "${prefix}.listenIP (${cfg.listenIP}) is not in ${prefix}.proxyDhcp.subnet (${toString cfg.proxyDhcp.subnet}): machines could not hear it.";
      }
      {
        assertion =
          !lib.elem cfg.tftpBootFilename [
            "chain.ipxe"
            "autoexec.ipxe"
            biosName
          ];
        message = "${prefix}.tftpBootFilename is ${cfg.tftpBootFilename}, which is another file's name; choose another, e.g. ec-ipxe.efi.";
      }
      {
        # What dnsmasq, and nginx on port 80, would have to share with others.
        assertion = !(config.services.dnsmasq.enable or false && cfg.proxyDhcp.enable);
        message = "${prefix}.proxyDhcp.enable and services.dnsmasq.enable: two programs cannot both answer DHCP here; turn one of them off.";
      }
      {
        assertion = !nginx.enable || taken == [ ];
        message = "services.nginx listens on port 80 of ${cfg.listenIP} too, for ${lib.concatStringsSep ", " taken}: give it other addresses (services.nginx.defaultListenAddresses) or another port (services.nginx.defaultHTTPListenPort).";
      }
    ]
    ++ secrets.assertions "${prefix}.chainTokenFile" cfg.chainTokenFile
    ++ secrets.assertions "${prefix}.release.tokenFile" cfg.release.tokenFile;
    warnings =
      lib.optional (cfg.ipxe.biosFile != null && !cfg.proxyDhcp.enable)
        "${prefix}.ipxe.biosFile: unless it has the script inside, a BIOS that is told to load it by option 67 never gets any further.";

    system.checks = import ./calendar.nix {
      inherit lib pkgs;
      systemd = config.systemd.package;
    } { "${prefix}.release.refresh" = cfg.release.refresh; };

    # For `ec-verify --config … netboot check`, which asks whom this host believes.
    environment.etc."${paths.name}/ec-verify.json".source = checkedConfig;

    # ec-verify netboot check.
    environment.systemPackages = [ cfg.package ];

    users.users.${paths.user} = {
      isSystemUser = true;
      group = paths.user;
      description = "Boot host";
    };
    users.groups.${paths.user} = { };

    systemd.services = rendered.services // {
      every-channel-netboot = rendered.services.every-channel-netboot // {
        wantedBy = [ "multi-user.target" ];
      };
      every-channel-netboot-stage = rendered.services.every-channel-netboot-stage // {
        # So it is also started by a switch, and that fails if it does.
        wantedBy = [ "multi-user.target" ];
      };
    };
    systemd.timers = lib.mapAttrs (_: t: t // { wantedBy = [ "timers.target" ]; }) rendered.timers;

    networking.firewall.interfaces = lib.mkIf cfg.openFirewall {
      ${cfg.interface} = {
        allowedTCPPorts = [ 80 ];
        allowedUDPPorts = [
          69
        ]
        ++ lib.optionals cfg.proxyDhcp.enable [
          67
          4011
        ];
      };
    };
  };
}
