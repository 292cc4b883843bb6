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

      nixosModules = {
        ec-node.imports = [ ./modules/ec-node.nix ];
        ec-netboot =
          { lib, pkgs, ... }:
          {
            imports = [ ./modules/ec-netboot.nix ];
            services.every-channel.netboot.package =
              lib.mkDefault
                self.packages.${pkgs.stdenv.hostPlatform.system}.ec-verify;
          };
        ec-runner.imports = [ ./modules/ec-runner.nix ];
        # The packages come from this flake; who imports the module by its file
        # name sets the package option instead.
        ec-verify =
          { lib, pkgs, ... }:
          {
            imports = [ ./modules/ec-verify.nix ];
            services.every-channel.ec-verify.package =
              lib.mkDefault
                self.packages.${pkgs.stdenv.hostPlatform.system}.ec-verify;
          };
        overlay-root.imports = [ ./modules/overlay-root.nix ];
        default.imports = lib.attrValues (removeAttrs self.nixosModules [ "default" ]);
      };

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
