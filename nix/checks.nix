# nix flake check: the program's own tests, the systems, their style, and the
# virtual machines of nix/tests, each file there being one.
{
  self,
  lib,
  pkgs,
  system,
}:
let
  arch = lib.removeSuffix "-linux" system;
  ofThisArch = lib.filterAttrs (
    name: _: lib.hasPrefix "ec-runner-${arch}" name
  ) self.nixosConfigurations;
  testFiles = lib.filterAttrs (name: kind: kind == "regular" && lib.hasSuffix ".nix" name) (
    builtins.readDir ./tests
  );
in
{
  package = self.packages.${system}.ec-verify;
  formatting = pkgs.runCommand "formatting" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    # Below internal are files that tests have recorded the bytes of.
    find ${self} -name '*.nix' -not -path '*/internal/*' -print0 | xargs -0 nixfmt --check
    touch $out
  '';
}
// lib.mapAttrs' (
  name: c: lib.nameValuePair "system-${name}" c.config.system.build.toplevel
) ofThisArch
// lib.mapAttrs' (
  file: _:
  lib.nameValuePair "vm-${lib.removeSuffix ".nix" file}" (
    pkgs.testers.runNixOSTest (import (./tests + "/${file}") { inherit self; })
  )
) testFiles
