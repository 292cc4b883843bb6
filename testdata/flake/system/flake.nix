{
  description = "Systems laid out like NixOS, built with one static program";

  # Never at this place: it is found in the store by the hash in the lock file,
  # as the inputs of a machine without network are.
  inputs.library = {
    url = "path:/var/empty/library";
    flake = false;
  };

  outputs =
    { self, library }:
    let
      system = "x86_64-linux";
      tools = builtins.path {
        name = "tools";
        path = ./tools;
      };
      inherit (import library { inherit system tools; }) mk;
      packages = import ./packages.nix { inherit mk tools; };
      makeSystem =
        arguments:
        import ./system.nix (
          {
            inherit
              mk
              packages
              self
              library
              ;
          }
          // arguments
        );
    in
    {
      nixosConfigurations = {
        testhost = makeSystem {
          name = "testhost";
          version = "26.05.2";
        };

        # The system before it: another version of one program, which is
        # another path of the same name in two more places, and one program
        # more.
        testhost-other = makeSystem {
          name = "testhost";
          version = "26.05.1";
          programVersion = n: if n == 4 then "1.3" else "1.${toString n}";
          extra = [ packages.debugger ];
        };

        # The first one and a part that no two builds agree on.
        testhost-unreproducible = makeSystem {
          name = "testhost";
          version = "26.05.2";
          extra = [ packages.clock ];
        };

        # The same, where the part is in the system's closure, so that the
        # manifests of two builders differ.
        testhost-differing = makeSystem {
          name = "testhost";
          version = "26.05.2";
          extra = [ packages.stopwatch ];
        };
      };
    };
}
