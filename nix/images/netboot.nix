# A runner that boots over the network and runs from memory. It is also the way
# to install or to recover a machine: it carries the system for the disk.
{
  config,
  modulesPath,
  pkgs,
  ...
}:
let
  # cmdline is iPXE's: what a script that chains to this one wants to add.
  script = pkgs.writeText "netboot.ipxe" ''
    #!ipxe
    kernel kernel init=${config.system.build.toplevel}/init initrd=initrd ${toString config.boot.kernelParams} ''${cmdline}
    initrd initrd
    boot
  '';
in
{
  imports = [
    ./installer.nix
    # Not netboot-minimal.nix: that logs a user without a password in.
    "${modulesPath}/installer/netboot/netboot.nix"
  ];

  # nixpkgs builds the parts, each under a name of its own; what is served, and
  # what a release has, is this directory. The names in it are fixed on all
  # architectures.
  system.build.netboot = pkgs.linkFarm "ec-runner-netboot" [
    {
      name = "kernel";
      path = "${config.system.build.kernel}/${config.system.boot.loader.kernelFile}";
    }
    {
      name = "initrd";
      path = "${config.system.build.netbootRamdisk}/initrd";
    }
    {
      name = "netboot.ipxe";
      path = script;
    }
  ];
}
