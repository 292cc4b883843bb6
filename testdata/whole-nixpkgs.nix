# The flake, and one configuration of testdata/modules, on a whole nixpkgs: real
# modules, real packages. hack/check-modules evaluates this where it is given one. The
# flakes are called here and not fetched, since Nix would copy all of nixpkgs for each
# evaluation.
{ nixpkgs, tree }:
let
  called =
    place: inputs:
    let
      # As it lies in the store, and not a copy of it.
      path = builtins.storePath place;
      outputs = (import (path + "/flake.nix")).outputs (inputs // { self = flake; });
      flake = outputs // {
        outPath = path;
        inherit inputs outputs;
        narHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        _type = "flake";
      };
    in
    flake;
  nixpkgsFlake = called nixpkgs { };
  flake = called tree { nixpkgs = nixpkgsFlake; };
  inherit (nixpkgsFlake) lib;

  # What is read of a machine, all of it evaluated.
  facts =
    config:
    let
      read = {
        toplevel = config.system.build.toplevel.drvPath;
        assertions = builtins.length config.assertions;
        failed = map (a: a.message) (builtins.filter (a: !a.assertion) config.assertions);
        inherit (config) warnings;
        units = lib.mapAttrs (_: unit: if unit.text == null then "" else unit.text) config.systemd.units;
        etc = lib.mapAttrs (_: entry: "${entry.source}") (
          lib.filterAttrs (_: entry: entry.enable) config.environment.etc
        );
      };
    in
    # What is refused is so by the toplevel, with the words of NixOS.
    builtins.seq config.system.build.toplevel.drvPath (builtins.deepSeq read read);
in
{
  names = builtins.attrNames flake.nixosConfigurations;

  system =
    name:
    let
      inherit (flake.nixosConfigurations.${name}) config;
      inherit (config.system) build;
      is = kind: lib.hasSuffix kind name;
    in
    facts config
    // {
      image =
        if is "-netboot" then
          build.netboot.drvPath
        else if is "-iso" then
          build.isoImage.drvPath
        else if is "-sdimage" then
          build.sdImage.drvPath
        else
          null;
    };

  # One system, or one set of modules, for each process: all at once take more memory
  # than a machine has.
  promises = name: import ./systems.nix { ${name} = flake.nixosConfigurations.${name}; };

  sets = lib.foldl' (sets: name: sets ++ map (set: set ++ [ name ]) sets) [ [ ] ] (
    lib.remove "default" (lib.attrNames flake.nixosModules)
  );
  together =
    names:
    (lib.nixosSystem {
      modules = map (name: flake.nixosModules.${name}) names ++ [
        ./least.nix
        { nixpkgs.hostPlatform = "x86_64-linux"; }
      ];
    }).config.system.build.toplevel.drvPath;

  # What NixOS declares the options of testdata/nixpkgs as.
  options = import ./nixpkgs/declared.nix {
    inherit lib;
    pkgs = nixpkgsFlake.legacyPackages.x86_64-linux;
    theirs =
      image:
      (lib.nixosSystem {
        modules = [
          "${nixpkgs}/nixos/modules/installer/${image}"
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ];
      }).options;
  };

  # The machines of the tests in nix/tests, with the real framework.
  tests = system: lib.mapAttrs (_: test: test.drvPath) (lib.filterAttrs (name: _: lib.hasPrefix "vm-" name) flake.checks.${system});

  case =
    modules: file:
    facts
      (lib.nixosSystem {
        specialArgs = {
          testFlake = {
            inherit (flake) outPath;
            inputs.nixpkgs = nixpkgsFlake;
          };
          inherit (flake.packages.x86_64-linux) ec-verify;
        };
        modules = map (name: flake.outPath + "/modules/${name}") modules ++ [
          file
          ./least.nix
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ];
      }).config;
}
