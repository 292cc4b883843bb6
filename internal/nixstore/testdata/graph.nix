let
  system = "x86_64-linux";
  builder = "/bin/sh";
  source = builtins.toFile "script.sh" "echo hello\n";
  file = name: derivation { inherit name system builder; outputHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; outputHashAlgo = "sha256"; outputHashMode = "flat"; };
  tree = derivation { name = "tree"; inherit system builder; outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; outputHashMode = "recursive"; };
  sha1 = derivation { name = "old"; inherit system builder; outputHash = "da39a3ee5e6b4b0d3255bfef95601890afd80709"; outputHashAlgo = "sha1"; };
  # The same download described twice: two derivations, one output.
  again = derivation { name = "download"; inherit system builder; outputHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; outputHashAlgo = "sha256"; mirror = "elsewhere"; };
  lib = derivation { name = "lib"; inherit system builder; outputs = [ "out" "dev" ]; args = [ source "a \"quoted\" \\ word\nand a line\tand a tab $x" ]; };
in derivation {
  name = "top"; inherit system builder;
  inputs = [ lib.dev (file "download") again tree sha1 ];
  text = "a \"quoted\" \\ word\nand a line\tand a tab";
}
