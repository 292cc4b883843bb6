# The root file system of the SD image, called as nixpkgs calls its own
# make-ext4-fs.nix, and byte for byte the same from every build.
{
  lib,
  stdenv,
  closureInfo,
  e2fsprogs,
  fakeroot,
  libfaketime,
  zstd,
  storePaths,
  volumeLabel,
  populateImageCommands ? "",
  compressImage ? false,
  uuid ? "44444444-4444-4444-8888-888888888888",
}:
stdenv.mkDerivation {
  name = "ext4-fs.img${lib.optionalString compressImage ".zst"}";
  nativeBuildInputs = [
    e2fsprogs
    fakeroot
    libfaketime
    zstd
  ];
  buildCommand = ''
    closure=${closureInfo { rootPaths = storePaths; }}
    # The commands write to ./files.
    mkdir -p files root
    ${populateImageCommands}
    cp -R --no-dereference --preserve=mode --reflink=auto files/. root/
    cp "$closure/registration" root/nix-path-registration

    bash ${./ext4.sh} root root.img ${lib.escapeShellArg volumeLabel} ${uuid} "$closure/store-paths"
    ${
      if compressImage then
        ''zstd -q -T"$NIX_BUILD_CORES" root.img -o "$out"''
      else
        ''mv root.img "$out"''
    }
  '';
}
