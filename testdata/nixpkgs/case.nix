# One file of testdata/modules, evaluated: the tree's modules of these names, and
# the file.
{
  nixpkgs,
  tree,
  modules,
  file,
}:
let
  flake = builtins.getFlake nixpkgs;
  system = "x86_64-linux";
  machine = flake.lib.nixosSystem {
    specialArgs = {
      # What a flake gives a module: here, a tree that has one input.
      testFlake = {
        outPath = tree;
        inputs.nixpkgs = flake;
      };
      ec-verify = flake.legacyPackages.${system}.callPackage (tree + "/nix/package.nix") { };
    };
    modules = map (name: tree + "/modules/${name}") modules ++ [
      file
      (tree + "/testdata/least.nix")
      { nixpkgs.hostPlatform = system; }
    ];
  };
  inherit (machine) config;
in
builtins.seq config.system.build.toplevel.drvPath {
  units = config.system.build.unitTexts;
  # What is run when the system is built.
  checks = map (check: check.given.text) config.system.checks;
  settings = config.services.every-channel.ec-verify.settings or null;
}
