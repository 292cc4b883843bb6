{
  description = "A stand-in for nixpkgs, see README.md";

  outputs =
    { self }:
    let
      lib = import ./lib;
      packagesOf = system: import ./packages.nix { inherit lib system nixosSystem; };

      nixosSystem =
        {
          modules,
          specialArgs ? { },
        }:
        let
          evaluated = lib.evalModules {
            class = "nixos";
            specialArgs = {
              modulesPath = "${self}/nixos/modules";
            }
            // specialArgs;
            modules = [
              ./nixos/options.nix
              ./nixos/journald.nix
              ./nixos/system.nix
              (
                { config, ... }:
                {
                  _module.args.pkgs = (packagesOf config.nixpkgs.hostPlatform).appendOverlays config.nixpkgs.overlays;
                }
              )
            ]
            ++ modules;
          };
        in
        evaluated // { inherit (evaluated._module.args) pkgs; };
    in
    {
      lib = lib // {
        inherit nixosSystem;
      };
      legacyPackages = lib.genAttrs [ "aarch64-linux" "x86_64-linux" ] packagesOf;
    };
}
