# A system laid out as NixOS lays it out.
{
  mk,
  packages,
  self,
  library,
  # What sets one system off from another.
  name,
  version,
  programVersion ? n: "1.${toString n}",
  extra ? [ ],
}:
let
  programs = packages.programs programVersion;
  outputs = list: builtins.concatStringsSep " " (map toString list);

  units = builtins.genList (
    n: packages.unit "service-${toString n}" "${builtins.elemAt programs n}/bin/program-0${toString n}"
  ) 6;

  systemUnits = mk "system-units" {
    units = outputs units;
    script = ''
      mkdir -p $out/multi-user.target.wants
      for unit in $units; do
        for file in $unit/*; do
          ln -s $file $out/
          ln -s ../''${file##*/} $out/multi-user.target.wants/
        done
      done
    '';
  };

  systemPath = mk "system-path" {
    parts = outputs ([ packages.busybox ] ++ programs ++ map (p: p.doc) programs ++ extra);
    script = ''
      for part in $parts; do
        for sub in bin share/doc; do
          [ -d $part/$sub ] || continue
          mkdir -p $out/$sub
          for file in $part/$sub/*; do ln -sf $file $out/$sub/; done
        done
      done
    '';
  };

  osRelease = mk "etc-os-release" {
    inherit version;
    script = ''
      text $out <<END
      ID=nixos
      NAME=NixOS
      VERSION_ID="$version"
      END
    '';
  };

  etc = mk "etc" {
    inherit
      name
      osRelease
      systemUnits
      library
      ;
    flake = self.outPath;
    script = ''
      mkdir -p $out/etc/every-channel $out/etc/systemd $out/etc/nix/path
      ln -s $flake $out/etc/every-channel/flake
      ln -s $library $out/etc/nix/path/library
      ln -s $systemUnits $out/etc/systemd/system
      ln -s $osRelease $out/etc/os-release
      echo $name | text $out/etc/hostname
    '';
  };

  toplevel = mk "nixos-system-${name}-${version}" {
    inherit
      etc
      systemPath
      version
      ;
    inherit (packages)
      busybox
      kernel
      initrd
      firmware
      oddities
      unpacked
      ;
    modules = packages.kernel.modules;
    headers = outputs (map (l: l.dev) packages.libraries);
    script = ''
      mkdir -p $out/bin $out/specialisation
      program $out/init <<END
      #!$busybox/bin/sh
      systemConfig=$out
      exec $busybox/bin/sh
      END
      program $out/activate <<END
      #!$busybox/bin/sh
      ln -sfn $out /run/current-system
      END
      program $out/bin/switch-to-configuration <<END
      #!$busybox/bin/sh
      exec $out/activate
      END
      ln -s $etc/etc $out/etc
      ln -s $systemPath $out/sw
      ln -s $kernel/bzImage $out/kernel
      ln -s $modules $out/kernel-modules
      ln -s $initrd/initrd $out/initrd
      ln -s $firmware/lib/firmware $out/firmware
      printf %s "$version" >$out/nixos-version
      printf %s $system >$out/system
      printf %s 'console=ttyS0' >$out/kernel-params
      printf 'systemd %s' 1 >$out/init-interface-version
      echo $headers $oddities $unpacked >$out/extra-dependencies
    '';
  };

  # What stands in for the images, by the names and in the places that they
  # have; there is no squashfs and no ISO file system here.
  netboot = mk "netboot" {
    inherit toplevel;
    inherit (packages) kernel initrd;
    script = ''
      mkdir -p $out
      ln -s $kernel/bzImage $out/kernel
      ln -s $initrd/initrd $out/initrd
      text $out/netboot.ipxe <<END
      #!ipxe
      kernel kernel init=$toplevel/init initrd=initrd console=ttyS0 \''${cmdline}
      initrd initrd
      boot
      END
    '';
  };

  isoImage = mk "iso" {
    inherit toplevel;
    inherit (packages) kernel initrd;
    script = ''
      mkdir -p $out/iso
      (cat $kernel/bzImage $initrd/initrd; cat $toplevel/init) >$out/iso/nixos.iso
    '';
  };
in
{
  config.system.build = {
    inherit toplevel netboot isoImage;
  };
}
