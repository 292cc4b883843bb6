# The six systems. Each runner is one system for all machines of its kind:
# nothing in it is a machine's own.
{ self, lib }:
let
  runner =
    name: arch: modules:
    lib.nixosSystem {
      specialArgs = {
        # The system that an image installs on a disk.
        installed = self.nixosConfigurations."ec-runner-${arch}".config.system.build.toplevel;
      };
      modules = [
        self.nixosModules.default
        ./runner.nix
        {
          nixpkgs.hostPlatform = "${arch}-linux";
          services.every-channel.runner.flake = self;
          services.every-channel.ec-verify.settings.configuration = name;
        }
      ]
      ++ modules;
    };
in
lib.mapAttrs (name: { arch, modules }: runner name arch modules) {
  ec-runner-aarch64 = {
    arch = "aarch64";
    modules = [ ./disk.nix ];
  };
  ec-runner-x86_64 = {
    arch = "x86_64";
    modules = [ ./disk.nix ];
  };
  ec-runner-aarch64-netboot = {
    arch = "aarch64";
    modules = [ ./images/netboot.nix ];
  };
  ec-runner-x86_64-netboot = {
    arch = "x86_64";
    modules = [ ./images/netboot.nix ];
  };
  ec-runner-x86_64-iso = {
    arch = "x86_64";
    modules = [ ./images/iso.nix ];
  };
  ec-runner-aarch64-sdimage = {
    arch = "aarch64";
    modules = [ ./images/sdimage.nix ];
  };
}
