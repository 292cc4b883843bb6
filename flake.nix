{
  description = "The every.channel runner: its NixOS system, its images, and the program that verifies them";

  # The only input. Every further one would have to be in the closure of every
  # runner, because a runner evaluates this flake without a network.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  # Nothing here may use self.rev, self.lastModified or any other fact of the
  # repository rather than of its content: the copy of this tree inside the OS
  # has none of them and must give the same derivations. self.outPath and
  # self.narHash are functions of the content.
  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        f:
        lib.genAttrs [ "aarch64-linux" "x86_64-linux" ] (system: f nixpkgs.legacyPackages.${system} system);
    in
    {
      nixosConfigurations = import ./nix/configurations.nix { inherit self lib; };

      nixosModules =
        let
          # With a key, a module that is imported twice, by itself and in default,
          # is one; with a file, it has a name in messages.
          module = name: imports: {
            _class = "nixos";
            _file = "${self}/flake.nix#nixosModules.${name}";
            key = "${self}/flake.nix#nixosModules.${name}";
            inherit imports;
          };
          # The packages come from this flake; who imports a module by its file name
          # sets the package option instead.
          package =
            option:
            { lib, pkgs, ... }:
            {
              services.every-channel.${option}.package =
                lib.mkOptionDefault
                  self.packages.${pkgs.stdenv.hostPlatform.system}.ec-verify;
            };
          modules = lib.mapAttrs module {
            ec-node = [ ./modules/ec-node.nix ];
            ec-netboot = [
              ./modules/ec-netboot.nix
              (package "netboot")
            ];
            ec-runner = [ ./modules/ec-runner.nix ];
            ec-verify = [
              ./modules/ec-verify.nix
              (package "ec-verify")
            ];
            overlay-root = [ ./modules/overlay-root.nix ];
          };
        in
        modules // { default = module "default" (lib.attrValues modules); };

      overlays.default = import ./nix/overlay.nix;

      packages = forEachSystem (
        pkgs: system:
        {
          default = self.packages.${system}.ec-verify;
          ec-verify = pkgs.callPackage ./nix/package.nix { };
        }
        // import ./nix/images.nix { inherit self lib system; }
      );

      apps = forEachSystem (
        _: system: {
          default = self.apps.${system}.ec-verify;
          ec-verify = {
            type = "app";
            program = lib.getExe self.packages.${system}.ec-verify;
            meta.description = "Prove that a NixOS machine is the release that it claims to be";
          };
        }
      );

      checks = forEachSystem (
        pkgs: system:
        import ./nix/checks.nix {
          inherit
            self
            lib
            pkgs
            system
            ;
        }
      );

      devShells = forEachSystem (pkgs: _: { default = import ./nix/shell.nix { inherit pkgs; }; });

      # Below internal are files that tests have recorded the bytes of.
      formatter = forEachSystem (
        pkgs: _: pkgs.nixfmt-tree.override { settings.excludes = [ "internal/*" ]; }
      );
    };
}
