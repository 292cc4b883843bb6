# What our Nix files use of nixpkgs' packages: derivations that are evaluated and
# never built. A name that is not here is an error, as a wrong one is in nixpkgs.
{
  lib,
  system,
  nixosSystem,
}:
let
  inherit (lib) types;

  # A derivation that depends on what it is given, and shows it: strings stay in
  # the environment, everything else is there as JSON.
  drv =
    name: args:
    let
      env = lib.mapAttrs (
        _: v:
        if lib.isDerivation v || lib.isString v || lib.isPath v then "${v}" else builtins.toJSON (plain v)
      ) args;
      it = derivation (
        {
          name = lib.strings.sanitizeDerivationName name;
          inherit system;
          builder = "/never/built";
        }
        // removeAttrs env [
          "name"
          "system"
          "meta"
          "passthru"
        ]
      );
    in
    it
    // {
      inherit name;
      pname = name;
      version = args.version or "0";
      meta = args.meta or { mainProgram = name; };
      passthru = args.passthru or { };
      # For whoever wants to look at what was given.
      given = args;
      override = _: drv name args;
      overrideAttrs = _: drv name args;
    }
    // (args.passthru or { });

  # Functions can't be rendered, and nothing here depends on them.
  plain =
    v:
    if lib.isFunction v then
      "function"
    else if lib.isDerivation v then
      "${v}"
    else if lib.isAttrs v then
      lib.mapAttrs (_: plain) v
    else if lib.isList v then
      map plain v
    else
      v;

  jsonType =
    let
      value =
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.float
            types.str
            types.path
            (types.attrsOf value)
            (types.listOf value)
          ]
        )
        // {
          description = "JSON value";
        };
    in
    value;

  # Packages of which nothing but the name matters here.
  named = lib.genAttrs [
    "avahi"
    "bash"
    "coreutils"
    "dnsmasq"
    "dosfstools"
    "e2fsprogs"
    "fakeroot"
    "findutils"
    "gawk"
    "gnused"
    "ffmpeg-headless"
    "gitMinimal"
    "gnutar"
    "go_1_26"
    "golangci-lint"
    "installShellFiles"
    "ipxe"
    "jq"
    "kmod"
    "libfaketime"
    "nginx"
    "nix"
    "nixfmt"
    "nixfmt-tree"
    "openssl"
    "shellcheck"
    "systemd"
    "tzdata"
    "util-linux"
    "zstd"
  ] (name: drv name { });

  platform = lib.systems.elaborate system;
  stdenv = {
    hostPlatform = platform;
    buildPlatform = platform;
    mkDerivation = args: drv (args.name or "${args.pname}-${args.version}") args;
  };

  fix =
    overlays:
    lib.fix (
      lib.extends (lib.composeManyExtensions overlays) (
        final:
        named
        // {
          inherit lib stdenv system;
          inherit (stdenv) hostPlatform;
          path = "/nixpkgs";
          appendOverlays = more: fix (overlays ++ more);

          prometheus.cli = drv "prometheus-cli" { };

          callPackage =
            file: args:
            let
              f = if lib.isFunction file then file else import file;
            in
            lib.makeOverridable f (builtins.intersectAttrs (lib.functionArgs f) final // args);

          buildGo126Module = args: drv "${args.pname}-${args.version}" (args // { src = "${args.src}"; });
          closureInfo = { rootPaths }: drv "closure-info" { inherit rootPaths; };
          linkFarm =
            name: entries:
            drv name {
              links = lib.listToAttrs (map (e: lib.nameValuePair e.name "${e.path}") entries);
            };
          mkShell = args: drv "shell" args;
          runCommand =
            name: env: text:
            drv name (env // { inherit text; });
          symlinkJoin = args: drv args.name args;
          writeShellApplication = args: drv args.name (args // { meta.mainProgram = args.name; });
          writeText = name: text: drv name { inherit text; };
          writeTextDir = path: text: drv (baseNameOf path) { inherit path text; };

          formats.json = _: {
            type = jsonType;
            generate = name: value: drv name { inherit value; };
          };

          # A test's machines are evaluated as nixosSystem would; the script is
          # Python, which is not run.
          testers.runNixOSTest =
            test:
            let
              t =
                if lib.isFunction test then
                  test {
                    pkgs = final;
                    inherit lib;
                  }
                else
                  test;
              machine =
                name: module:
                (nixosSystem {
                  modules = [
                    module
                    ./nixos/test-machine.nix
                    {
                      nixpkgs.hostPlatform = system;
                      networking.hostName = lib.mkDefault name;
                    }
                  ];
                }).config.system.build.toplevel;
            in
            drv "vm-test-${t.name}" {
              inherit (t) testScript;
              nodes = lib.mapAttrs machine t.nodes;
            };
        }
      )
    );
in
fix [ ]
