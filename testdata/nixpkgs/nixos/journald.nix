# journald's options as nixpkgs has them in 26.05.
{ lib, ... }:
let
  opt = type: default: lib.mkOption { inherit type default; };
  inherit (lib) types;
in
{
  key = "stand-in-journald";
  options.services.journald = {
    extraConfig = opt types.lines "";
    rateLimitBurst = opt types.int 10000;
    rateLimitInterval = opt types.str "30s";
    storage = opt (types.enum [
      "persistent"
      "volatile"
      "auto"
      "none"
    ]) "persistent";
  };
}
