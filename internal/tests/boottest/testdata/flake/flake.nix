{
  description = "Two systems that a boot loader starts in a virtual machine";

  # As in testdata/flake, whose library and lock file this one shares.
  inputs.library = {
    url = "path:/var/empty/library";
    flake = false;
  };

  outputs =
    { self, library }:
    let
      tools = builtins.path {
        name = "tools";
        path = ./tools;
      };
      inherit
        (import library {
          system = "x86_64-linux";
          inherit tools;
        })
        mk
        ;

      # What the test puts there: Debian's kernel, and an initrd.
      kernel = mk "linux-6.12" {
        script = ''
          mkdir -p $out
          cp ${tools}/vmlinuz $out/bzImage
        '';
      };
      initrd = mk "initrd-linux-6.12" {
        script = ''
          mkdir -p $out
          cp ${tools}/initrd $out/initrd
        '';
      };
      busybox = mk "busybox-1" {
        script = ''
          mkdir -p $out/bin
          cp ${tools}/busybox $out/bin/busybox
        '';
      };
      # The boot loader, where NixOS' systemd has it.
      systemd = mk "systemd-257" {
        script = ''
          mkdir -p $out/lib/systemd/boot/efi
          cp ${tools}/systemd-bootx64.efi $out/lib/systemd/boot/efi/
        '';
      };
      params = builtins.readFile ./tools/kernel-params;

      makeSystem =
        version:
        let
          # The part that only this system has.
          program = mk "program-${version}" {
            inherit version;
            script = ''
              mkdir -p $out/bin
              echo "the program of $version" >$out/bin/program
            '';
          };
          toplevel = mk "nixos-system-machine-${version}" {
            inherit
              busybox
              kernel
              initrd
              params
              program
              library
              systemd
              ;
            flake = self.outPath;
            # Stage 2 is a Debian's, whose systemd is what is booted.
            script = ''
              mkdir -p $out/etc/every-channel
              program $out/init <<END
              #!$busybox/bin/busybox sh
              for link in current-system booted-system; do $busybox/bin/busybox ln -sfn $out /run/\$link; done
              exec /usr/lib/systemd/systemd
              END
              ln -s $kernel/bzImage $out/kernel
              ln -s $initrd/initrd $out/initrd
              ln -s $program $out/sw
              ln -s $systemd $out/systemd
              ln -s $flake $out/etc/every-channel/flake
              ln -s $library $out/etc/every-channel/library
              printf %s "$params" >$out/kernel-params
              text $out/boot.json <<END
              {
                "org.nixos.bootspec.v1": {
                  "init": "$out/init", "initrd": "$initrd/initrd", "kernel": "$kernel/bzImage",
                  "kernelParams": [], "label": "NixOS", "system": "$system", "toplevel": "$out"
                },
                "org.nixos.specialisation.v1": {},
                "org.nixos.systemd-boot": { "sortKey": "nixos" }
              }
              END
            '';
          };
        in
        {
          config.system.build = { inherit toplevel; };
        };
    in
    {
      nixosConfigurations = {
        first = makeSystem "1";
        second = makeSystem "2";
      };
    };
}
