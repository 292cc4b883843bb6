{
  outputs = { self }:
    let
      tools = builtins.path { name = "tools"; path = ./tools; };
      mk = name: script: derivation {
        inherit name;
        system = "x86_64-linux";
        builder = "${tools}/busybox";
        args = [ "sh" "-c" script ];
      };
      toplevel = t: { config.system.build.toplevel = t; };
    in
    {
      nixosConfigurations = {
        works = toplevel (mk "system" "cat ${mk "part" "echo building; echo x > $out"} > $out");
        fails = toplevel (mk "system" "cat ${mk "part" "echo hello; echo bad >&2; exit 3"} > $out");
        mismatch = toplevel (derivation {
          name = "download";
          system = "x86_64-linux";
          builder = "${tools}/busybox";
          args = [ "sh" "-c" "echo x > $out" ];
          outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
          outputHashMode = "recursive";
        });
        throws = toplevel (throw "my\nmessage");
        builds = toplevel (import (mk "nixcode" "echo 1 > $out"));
        peeks = toplevel (builtins.readFile "/etc/passwd");
        nothing = toplevel { drvPath = 1; outPath = { }; system = [ ]; };
      };
    };
}
