# The parts of the systems, shared as far as their arguments are the same.
{ mk, tools }:
let
  number = n: if n < 10 then "0${toString n}" else toString n;
in
rec {
  # Programs and many links to one of them.
  busybox = mk "busybox-1" {
    inherit tools;
    script = ''
      mkdir -p $out/bin
      cp $tools/busybox $out/bin/busybox
      for name in ash cat cp grep ls mkdir mv rm sh sha256sum; do
        ln -s busybox $out/bin/$name
      done
    '';
  };

  # A chain: each holds a reference to the one before, its dev output to both.
  libraries = builtins.genList (
    n:
    mk "library-${number n}-1.${toString n}" {
      outputs = [
        "out"
        "dev"
      ];
      number = number n;
      before = if n == 0 then "" else builtins.elemAt libraries (n - 1);
      script = ''
        mkdir -p $out/lib $dev/include
        seq 1 20000 | text $out/lib/lib$number.so.1.0
        ln -s lib$number.so.1.0 $out/lib/lib$number.so.1
        ln -s lib$number.so.1 $out/lib/lib$number.so
        echo "$before" | text $out/lib/needed
        echo "libdir=$out/lib" | text $dev/lib/pkgconfig/lib$number.pc
        echo "before=$before" | text $dev/include/lib$number.h
      '';
    }
  ) 12;

  # Programs, each needing two libraries and the shell.
  programs =
    version:
    builtins.genList (
      n:
      mk "program-${number n}-${version n}" {
        outputs = [
          "out"
          "doc"
        ];
        inherit busybox;
        number = number n;
        version = version n;
        one = builtins.elemAt libraries n;
        two = builtins.elemAt libraries ((n * 5 + 3) - ((n * 5 + 3) / 12 * 12));
        script = ''
          program $out/bin/program-$number <<END
          #!$busybox/bin/sh
          # needs $one/lib and $two/lib
          echo program-$number $version
          END
          ln -s ../bin/program-$number $out/.program
          echo "program-$number $version" | text $doc/share/doc/program-$number/README
        '';
      }
    ) 12;

  # File names and sizes that programs get wrong.
  oddities = mk "oddities-1" {
    script = ''
      mkdir -p $out/names $out/sizes $out/empty $out/nested/empty $out/links
      cd $out/names
      for name in ..foo .hidden ... 'two words' 'trailing ' -dash '*' '$HOME' \
        'back\slash' "quo'te" 'quo"te' a-b a.b ab A; do
        echo "$name" >"./$name"
      done
      mkdir a
      echo inner >a/b
      echo newline >"$(printf 'new\nline')"
      echo tab >"$(printf 'tab\there')"
      echo latin >"$(printf 'caf\351')"
      echo invalid >"$(printf '\377\376')"
      echo composed >"$(printf 'caf\303\251')"
      echo decomposed >"$(printf 'cafe\314\201')"
      echo japanese >"$(printf '\346\227\245\346\234\254')"
      mkdir "$(printf 'dir\200')"
      echo inner >"$(printf 'dir\200/file')"
      cd $out/sizes
      for size in 0 1 7 8 9 4095 4096 4097 65536; do
        head -c $size /dev/zero | tr '\0' x >$size
      done
      echo '#!/bin/sh' >executable
      chmod +x executable
      cd $out/links
      ln -s ../sizes/8 relative
      ln -s $out/sizes/8 absolute
      ln -s nowhere dangling
      ln -s itself itself
      ln -s ../empty directory
      ln -s "$(printf '\377')" "$(printf 'to-\377')"
    '';
  };

  # One file of 40 MiB.
  firmware = mk "firmware-1" {
    script = ''
      mkdir -p $out/lib/firmware
      seq 1 200000 | head -c 1048576 >part
      for n in $(seq 1 40); do cat part; done >$out/lib/firmware/big.bin
    '';
  };

  # Fixed by the hash of its output, as a download is.
  source = mk "source-1" {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f";
    script = "seq 1 1000 >$out";
  };

  unpacked = mk "unpacked-1" {
    inherit source;
    script = ''
      mkdir -p $out
      cp $source $out/content
    '';
  };

  kernel = mk "linux-6.12" {
    outputs = [
      "out"
      "modules"
    ];
    script = ''
      mkdir -p $out
      seq 1 50000 >$out/bzImage
      for n in $(seq 1 40); do
        seq $n 500 | text $modules/lib/modules/6.12/kernel/drivers/driver$n.ko
      done
    '';
  };

  initrd = mk "initrd-linux-6.12" {
    inherit kernel busybox;
    modules = kernel.modules;
    script = ''
      mkdir -p $out
      (
        cat $busybox/bin/busybox
        find $modules -type f | sort | while read -r file; do cat "$file"; done
      ) >$out/initrd
    '';
  };

  unit =
    name: command:
    mk "unit-${name}.service" {
      inherit name command;
      script = ''
        text $out/$name.service <<END
        [Service]
        ExecStart=$command
        END
      '';
    };

  debugger = mk "debugger-1" {
    inherit busybox;
    script = ''
      program $out/bin/debugger <<END
      #!$busybox/bin/sh
      echo debugger
      END
    '';
  };

  # The same, where the system links to it.
  stopwatch = mk "stopwatch-1" {
    script = ''
      mkdir -p $out/bin
      cp /proc/sys/kernel/random/uuid $out/bin/stopwatch
    '';
  };

  # A build that comes out otherwise each time.
  clock = mk "clock-1" {
    script = ''
      mkdir -p $out
      cp /proc/sys/kernel/random/uuid $out/uuid
    '';
  };
}
