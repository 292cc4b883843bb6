# What the options of this stand-in are declared as: by name the structure of the type,
# and the default where it is a plain value. With theirs, the options of NixOS with one of
# the image modules, what NixOS declares the same options as; one that it does not have is
# null. hack/check-modules holds the first to options.json, which is the second.
{
  lib,
  pkgs,
  theirs ? null,
}:
let
  inherit (lib) concatLists isOption mapAttrsToList;

  structure =
    type:
    let
      payload = type.functor.payload or null;
      inside = mapAttrsToList (_: structure) (removeAttrs (type.nestedTypes or { }) [ "freeformType" ]);
    in
    type.name
    + lib.optionalString (type.name == "enum") "[${toString (payload.values or payload)}]"
    + lib.optionalString (
      inside != [ ] && type.name != "submodule"
    ) "(${lib.concatStringsSep ", " inside})";

  # Without packages, functions and what depends on the store.
  plain =
    v:
    if builtins.isList v then
      lib.all plain v
    else if builtins.isAttrs v then
      !(lib.isDerivation v) && !(v ? _type) && lib.all plain (lib.attrValues v)
    else if builtins.isString v then
      !(builtins.hasContext v)
    else
      builtins.isNull v || builtins.isBool v || builtins.isInt v || builtins.isFloat v;
  # One that is described is computed.
  default =
    option:
    lib.optionalAttrs (option ? defaultText) { computed = true; }
    // lib.optionalAttrs (option ? default && !(option ? defaultText)) (
      let
        isPlain = builtins.tryEval (plain option.default);
      in
      lib.optionalAttrs (isPlain.success && isPlain.value) { inherit (option) default; }
    );

  collect =
    path: mine: theirs:
    concatLists (
      mapAttrsToList (
        name: option:
        let
          here = path ++ [ name ];
          their = theirs.${name} or null;
          fact = lib.nameValuePair (lib.concatStringsSep "." here);
        in
        if their == null || isOption option && !(isOption their) then
          [ (fact null) ]
        else if isOption option then
          [ (fact ({ type = structure their.type; } // default their)) ]
          ++ collect (here ++ [ "*" ]) (option.type.getSubOptions here) (their.type.getSubOptions here)
        else
          collect here option their
      ) (removeAttrs mine [ "_module" ])
    );

  options =
    image:
    (lib.evalModules {
      class = "nixos";
      modules = [
        ./nixos/options.nix
        ./nixos/journald.nix
        (./nixos/modules/installer + "/${image}")
        { _module.args = { inherit pkgs; }; }
      ];
    }).options;
  of = image: collect [ ] (options image) ((if theirs == null then options else theirs) image);
in
lib.listToAttrs (
  lib.concatMap of [
    "cd-dvd/iso-image.nix"
    "netboot/netboot.nix"
    "sd-card/sd-image-aarch64.nix"
  ]
)
