# Adds ec-verify to a nixpkgs of the user's choice.
final: _prev: {
  ec-verify = final.callPackage ./package.nix { };
}
