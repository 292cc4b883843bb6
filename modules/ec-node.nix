# services.every-channel.ec-node: the publisher, one service for each broadcast.
# What a service is made of is in ec-node/unit.nix.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.every-channel.ec-node;
  prefix = "services.every-channel.ec-node";
  secrets = import ./secrets.nix { inherit lib; };

  # The HDHomeRun's own HTTP interface, https://info.hdhomerun.com/info/http_api:
  # port 5004, /auto/ or /tunerN/, v and the virtual channel. Its host name is
  # its address or, over multicast DNS, its device id. Where neither is set it has
  # none: NixOS reads it before the assertion can say so.
  hdhomerunHost =
    if cfg.hdhomerun.host != null then
      if lib.hasInfix ":" cfg.hdhomerun.host then "[${cfg.hdhomerun.host}]" else cfg.hdhomerun.host
    else
      lib.optionalString (cfg.hdhomerun.deviceId != null) "${lib.toUpper cfg.hdhomerun.deviceId}.local";
  hdhomerunInput =
    b:
    let
      tuner = if b.tuner == null then "auto" else "tuner${toString b.tuner}";
    in
    "http://${hdhomerunHost}:5004/${tuner}/v${b.channel}";

  broadcast =
    { name, ... }:
    {
      options = {
        name = mkOption {
          type = types.strMatching "[^[:cntrl:]]{1,128}";
          default = name;
          defaultText = lib.literalMD "the attribute's name";
          example = "kqed";
          description = "The published name of the broadcast (`--name`).";
        };
        relayUrl = mkOption {
          type = types.nullOr (types.strMatching "https?://[^[:space:][:cntrl:]]+");
          default = cfg.relayUrl;
          defaultText = lib.literalExpression "config.${prefix}.relayUrl";
          description = "The relay of the broadcast (`--url`).";
        };
        channel = mkOption {
          type = types.nullOr (types.strMatching "[0-9]{1,5}([.][0-9]{1,5})?");
          default = null;
          example = "9.1";
          description = "The HDHomeRun's virtual channel to publish. Either this or `input` is set.";
        };
        tuner = mkOption {
          type = types.nullOr (types.ints.between 0 15);
          default = null;
          description = "The tuner to use; `null` for the first free one.";
        };
        input = mkOption {
          type = types.nullOr (types.strMatching "[^[:cntrl:]]+");
          default = null;
          example = "http://192.0.2.7/stream.ts";
          description = "The input that is published instead of a channel (`--input`): a URL that the publisher reads.";
        };
        extraArgs = mkOption {
          type = types.listOf (types.strMatching "[^[:cntrl:]]*");
          default = cfg.extraArgs;
          defaultText = lib.literalExpression "config.${prefix}.extraArgs";
          description = "Further arguments of `ec-node wt-publish`, after all others.";
        };
        credentials = mkOption {
          type = types.attrsOf types.path;
          default = { };
          example = {
            token = "/var/lib/secrets/relay-token";
          };
          description = ''
            Files that the service manager passes to the publisher as
            `$CREDENTIALS_DIRECTORY/NAME`. They are read on the machine and must not be
            in the store, which every user can read.
          '';
        };
        environmentFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          description = "A file on the machine with lines `VARIABLE=value` for the publisher.";
        };
      };
    };

  unitOf =
    b:
    import ./ec-node/unit.nix {
      program = lib.getExe cfg.package;
      inherit (b)
        name
        extraArgs
        credentials
        environmentFile
        ;
      # Where these are null, an assertion has said so in the option's name.
      relayUrl = toString b.relayUrl;
      input = if b.channel != null then hdhomerunInput b else toString b.input;
    };

  broadcasts = lib.attrValues cfg.broadcasts;
  # The options of those that have the same of what f gives of each, null being
  # nothing, wherever several do: "a.x and b.x".
  shared =
    suffix: f:
    lib.concatMap
      (
        group:
        lib.optional (lib.length group > 1) (
          lib.concatMapStringsSep " and " (key: "${prefix}.broadcasts.${key}.${suffix}") group
        )
      )
      (
        lib.attrValues (
          lib.groupBy (key: f cfg.broadcasts.${key}) (
            lib.filter (key: f cfg.broadcasts.${key} != null) (lib.attrNames cfg.broadcasts)
          )
        )
      );
  sameName = shared "name" (b: "${toString b.relayUrl} ${b.name}");
  sameTuner = shared "tuner" (b: if b.tuner == null then null else toString b.tuner);
  usesTuner = lib.any (b: b.channel != null) broadcasts;

  assertionsOf =
    key: b:
    let
      option = "${prefix}.broadcasts.${key}";
    in
    [
      {
        assertion = lib.match "[a-z0-9][a-z0-9-]{0,63}" key != null;
        message = "${option}: the attribute's name becomes the unit's: use lower-case letters, digits and dashes; the name that viewers see is ${option}.name.";
      }
      {
        assertion = b.relayUrl != null;
        message = "${option} has no relay: set ${prefix}.relayUrl, or ${option}.relayUrl.";
      }
      {
        assertion = (b.channel == null) != (b.input == null);
        message = "${option}: set exactly one of ${option}.channel and ${option}.input.";
      }
      {
        assertion = b.tuner == null || b.channel != null;
        message = "${option}.tuner is of no use without ${option}.channel.";
      }
      {
        assertion = lib.all (name: lib.match "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" name != null) (
          lib.attrNames b.credentials
        );
        message = "${option}.credentials: a credential's name is of letters, digits and . _ -, for it is a file's.";
      }
    ]
    ++ secrets.assertions "${option}.environmentFile" b.environmentFile
    ++ lib.concatLists (
      lib.mapAttrsToList (name: secrets.assertions "${option}.credentials.${name}") b.credentials
    );
in
{
  _class = "nixos";

  options.services.every-channel.ec-node = {
    enable = lib.mkEnableOption "publishing broadcasts with ec-node";
    package = mkOption {
      type = types.package;
      example = lib.literalExpression "inputs.every-channel.packages.\${system}.ec-node";
      description = ''
        The package with the publisher; its `meta.mainProgram` is run. There is no
        default, because this repository does not have the publisher.
      '';
    };
    ffmpeg = mkOption {
      type = types.nullOr types.package;
      default = pkgs.ffmpeg-headless;
      defaultText = lib.literalExpression "pkgs.ffmpeg-headless";
      description = "The `ffmpeg` on the publisher's PATH, with x264; `null` for none.";
    };
    relayUrl = mkOption {
      type = types.nullOr (types.strMatching "https?://[^[:space:][:cntrl:]]+");
      default = null;
      example = "https://relay.example.org/";
      description = "The relay of all broadcasts that name no other.";
    };
    hdhomerun = {
      host = mkOption {
        # A name, an IPv4 address or an IPv6 address; no port.
        type = types.nullOr (
          types.strMatching "[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*"
        );
        default = null;
        example = "192.0.2.10";
        description = "Address or host name of the HDHomeRun, such as `hdhr-10abcdef.local`. Either this or `deviceId` is set.";
      };
      deviceId = mkOption {
        type = types.nullOr (types.strMatching "[0-9A-Fa-f]{8}");
        default = null;
        example = "10ABCDEF";
        description = ''
          Device id of the HDHomeRun. It is then found by its name on the local
          network (`ID.local`, multicast DNS), whatever address DHCP gives it.
        '';
      };
    };
    extraArgs = mkOption {
      type = types.listOf (types.strMatching "[^[:cntrl:]]*");
      default = [ ];
      description = "Further arguments of `ec-node wt-publish`, for all broadcasts that do not set their own.";
    };
    broadcasts = mkOption {
      type = types.attrsOf (types.submodule broadcast);
      default = { };
      example = {
        kqed.channel = "9.1";
      };
      description = "What is published. Each is a service of its own, `ec-node-NAME.service`.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.concatLists (lib.mapAttrsToList assertionsOf cfg.broadcasts) ++ [
      {
        assertion = cfg.broadcasts != { };
        message = "${prefix}.enable is set, but ${prefix}.broadcasts is empty.";
      }
      {
        assertion = usesTuner -> (cfg.hdhomerun.host == null) != (cfg.hdhomerun.deviceId == null);
        message = "a broadcast has a channel: set exactly one of ${prefix}.hdhomerun.host and ${prefix}.hdhomerun.deviceId.";
      }
      {
        assertion = sameName == [ ];
        message = "${lib.concatStringsSep ", " sameName}: the same name at the same relay.";
      }
      {
        assertion = sameTuner == [ ];
        message = "${lib.concatStringsSep ", " sameTuner}: one tuner can be tuned to one channel; take another, or null.";
      }
    ];

    systemd.services = lib.mapAttrs' (
      key: b:
      lib.nameValuePair "ec-node-${key}" (
        unitOf b
        // {
          wantedBy = [ "multi-user.target" ];
          path = lib.optional (cfg.ffmpeg != null) cfg.ffmpeg;
        }
      )
    ) cfg.broadcasts;

    # No dash in its name: that would put it below another slice.
    systemd.slices.ecnode = {
      description = "Publishers of broadcasts";
      sliceConfig = {
        CPUWeight = 1000;
        IOWeight = 1000;
      };
    };

    # For names below .local, which are asked for by multicast.
    services.avahi = lib.mkIf (usesTuner && lib.hasSuffix ".local" hdhomerunHost) {
      enable = true;
      nssmdns4 = true;
    };
  };
}
