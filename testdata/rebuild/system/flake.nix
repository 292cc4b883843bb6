{
  description = "Derivations that do not come out again as they did the first time";

  outputs =
    { self }:
    let
      system = "x86_64-linux";
      tools = builtins.path {
        name = "tools";
        path = ./tools;
      };
      mk =
        name:
        { script, ... }@arguments:
        derivation (
          removeAttrs arguments [ "script" ]
          // {
            inherit name system;
            builder = "${tools}/busybox";
            args = [
              "sh"
              "-euc"
              ''
                "$builder" mkdir -p "$TMPDIR/bin"
                "$builder" --install -s "$TMPDIR/bin"
                export PATH="$TMPDIR/bin"
                ${script}
              ''
            ];
          }
        );
      uuid = "cat /proc/sys/kernel/random/uuid";
      number = n: if n < 10 then "0${toString n}" else toString n;

      parts = builtins.genList (
        n:
        mk "part-${number n}" {
          before = if n == 0 then "" else builtins.elemAt parts (n - 1);
          number = number n;
          script = ''
            mkdir -p $out
            seq 1 100 >$out/$number
            [ -z "$before" ] || ln -s $before $out/before
          '';
        }
      ) 30;

      clock-new = mk "clock-new" {
        script = ''
          mkdir -p $out
          echo same >$out/same
          ${uuid} >$out/uuid
        '';
      };

      # No part of the system: what is made from it does not mention it.
      seed = mk "seed" { script = "echo seed >$out"; };

      pair = mk "pair" {
        outputs = [
          "out"
          "second"
        ];
        script = ''
          echo same >$out
          echo $out >$second
          ${uuid} >>$second
        '';
      };

      # What Nix's own check of a rebuild passes.
      blind = [
        pair
        (mk "peek" {
          script = "if [ -e /srv/peeked ]; then cat /srv/peeked; else echo nothing; fi >$out";
        })
        (mk "download" {
          outputHashMode = "flat";
          outputHashAlgo = "sha256";
          outputHash = "67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f";
          script = "wget -q -O $out http://127.0.0.1:8123/numbers || seq 1 1000 >$out";
        })
      ];
      floating = [
        (mk "floating" {
          __contentAddressed = true;
          outputHashMode = "recursive";
          outputHashAlgo = "sha256";
          script = "${uuid} >$out";
        })
      ];

      cases = [
        clock-new
        (mk "clock-listed" { script = "${uuid} >$out"; })
        pair
        (mk "triple" {
          outputs = [
            "dev"
            "doc"
            "out"
          ];
          script = ''
            ${uuid} >$dev
            ${uuid} >$doc
            echo $dev $doc >$out
          '';
        })
        (mk "fixed" {
          outputHashMode = "flat";
          outputHashAlgo = "sha256";
          outputHash = "67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f";
          script = "seq 1 1000 >$out";
        })
        (mk "fails" {
          script = ''
            echo "this is the last that it says" >&2
            [ -e /first-build ] || exit 3
            echo >$out
          '';
        })
        (mk "endless" {
          script = ''
            [ -e /first-build ] || sleep 100000
            echo >$out
          '';
        })
        (mk "filler" {
          script = ''
            mkdir -p $out
            [ -e /first-build ] || cat /dev/zero >$out/zero
          '';
        })
        (mk "grown" {
          inherit seed;
          script = "wc -c <$seed >$out";
        })
        (mk "after-clock" {
          clock = clock-new;
          script = "sha256sum <$clock/uuid >$out";
        })
        (mk "intruder" {
          victim = builtins.elemAt parts 3;
          script = ''
            for name in $victim/03 $victim $builder; do
              chmod u+w $name || :
              (echo intruded >>$name) || :
              rm -rf $name || :
              mv $name $name.moved || :
            done
            umount $victim || :
            cat $victim/03 >$out
          '';
        })
      ];

      etc = mk "etc" {
        preferLocalBuild = true;
        allowSubstitutes = false;
        flake = self.outPath;
        script = ''
          mkdir -p $out/etc/every-channel
          ln -s $flake $out/etc/every-channel/flake
        '';
      };

      makeSystem =
        { name, cases }:
        {
          config.system.build.toplevel = mk "nixos-system-${name}-1" {
            preferLocalBuild = true;
            allowSubstitutes = false;
            inherit etc name;
            parts = toString parts;
            cases = toString (map (c: map (o: c.${o}) (c.outputs or [ "out" ])) cases);
            script = ''
              mkdir -p $out
              ln -s $etc/etc $out/etc
              echo $parts $cases >$out/needed
              echo init >$out/init
              chmod +x $out/init
              printf %s 'console=ttyS0' >$out/kernel-params
            '';
          };
        };
    in
    {
      nixosConfigurations = {
        cases = makeSystem {
          name = "cases";
          inherit cases;
        };
        # Where nothing goes wrong.
        parts = makeSystem {
          name = "parts";
          cases = [ ];
        };
        blind = makeSystem {
          name = "blind";
          cases = blind;
        };
      }
      # It takes an experimental feature of Nix even to evaluate this.
      // (
        if builtins.pathExists ./floating then
          {
            floating = makeSystem {
              name = "floating";
              cases = floating;
            };
          }
        else
          { }
      );
    };
}
