# Each set of the flake's modules, each of them once or twice, makes a system
# that evaluates, and has the package of the flake. hack/check-modules evaluates
# this; what does not hold is in the list that comes out.
flake:
let
  nixpkgs = flake.inputs.nixpkgs;
  inherit (nixpkgs) lib;
  system = "x86_64-linux";
  modules = flake.nixosModules;

  # Where a module's package is.
  packages = {
    ec-netboot = "netboot";
    ec-verify = "ec-verify";
  };

  sets = lib.foldl' (sets: name: sets ++ map (set: set ++ [ name ]) sets) [ [ ] ] (
    lib.attrNames modules
  );

  evaluate =
    extra: names:
    nixpkgs.lib.nixosSystem {
      modules = map (name: modules.${name}) names ++ [
        ./least.nix
        { nixpkgs.hostPlatform = system; }
        extra
      ];
    };

  check =
    names:
    let
      evaluated = evaluate { } names;
      declared = lib.filterAttrs (name: _: lib.elem name names || lib.elem "default" names) packages;
      ofTheFlake =
        option:
        evaluated.config.services.every-channel.${option}.package.drvPath
        == flake.packages.${system}.ec-verify.drvPath;
    in
    lib.optional (
      !(
        lib.isString evaluated.config.system.build.toplevel.drvPath
        && lib.all ofTheFlake (lib.attrValues declared)
      )
    ) "nixosModules ${toString names}: another package than the flake's";

  # A default of somebody's wins over the flake's, and a mistake is told with the
  # module's name.
  other = nixpkgs.legacyPackages.${system}.jq;
  withDefault = evaluate { services.every-channel.ec-verify.package = lib.mkDefault other; } [
    "default"
  ];
in
lib.concatMap check (
  sets
  ++ map (name: [
    name
    name
  ]) (lib.attrNames modules)
)
++ lib.optional (
  withDefault.config.services.every-channel.ec-verify.package.drvPath != other.drvPath
) "a default of the package option does not win over the flake's"
