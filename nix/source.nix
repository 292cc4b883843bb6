# The files that the program is made of, and that its tests in package.nix need:
# every Go file wherever it lies, what the packages carry beside them, and the
# units. Other documents, modules and scripts are left out, so that changing one of them
# rebuilds nothing.
{ lib }:
let
  root = ../.;
  inherit (lib) fileset;
in
fileset.toSource {
  inherit root;
  fileset = fileset.unions [
    (fileset.fileFilter (file: file.hasExt "go") root)
    ../go.mod
    ../go.sum
    ../cmd
    ../internal
    ../pkg
    ../testdata/release
    ../systemd
    # Of which a manual page is made.
    ../docs/configuration.md
  ];
}
