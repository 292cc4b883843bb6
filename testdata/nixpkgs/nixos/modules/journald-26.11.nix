# journald's options as nixpkgs has them from 26.11 on (NixOS/nixpkgs#536538), in
# the place of those of 26.05.
{ lib, ... }:
{
  disabledModules = [ { key = "stand-in-journald"; } ];
  options.services.journald.settings.Journal = lib.mkOption {
    type = lib.types.attrsOf (
      lib.types.oneOf [
        lib.types.bool
        lib.types.int
        lib.types.str
      ]
    );
    default = { };
  };
}
