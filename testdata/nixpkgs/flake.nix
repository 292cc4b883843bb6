{
  description = "A stand-in for nixpkgs, see README.md";

  outputs =
    { self }:
    let
      lib = import ./lib;
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
      packagesOf = system: import ./packages.nix { inherit lib system nixosSystem; };

      nixosSystem =
        {
          modules,
          specialArgs ? { },
        }:
        lib.evalModules {
          class = "nixos";
          specialArgs = {
            modulesPath = "${self}/nixos/modules";
          }
          // specialArgs;
          modules = [
            ./nixos/options.nix
            ./nixos/system.nix
            (
              { config, ... }:
              {
                _module.args.pkgs = lib.mkDefault (
                  (packagesOf config.nixpkgs.hostPlatform).appendOverlays config.nixpkgs.overlays
                );
              }
            )
          ]
          ++ modules;
        };
    in
    {
      lib = lib // {
        inherit nixosSystem;
      };
      legacyPackages = lib.genAttrs systems packagesOf;
    };
}
