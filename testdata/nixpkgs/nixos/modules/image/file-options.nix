# As nixpkgs': what an image is called.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  text = default: lib.mkOption ({ type = lib.types.str; } // default);
in
{
  options.image = {
    baseName = text {
      default = "nixos-image-${config.system.nixos.label}-${pkgs.stdenv.hostPlatform.system}";
      defaultText = "of the label and the system";
    };
    extension = text { };
    fileName = text {
      default = "${config.image.baseName}.${config.image.extension}";
      defaultText = "of the base name and the extension";
    };
    filePath = text {
      default = config.image.fileName;
      defaultText = "image.fileName";
    };
  };
}
