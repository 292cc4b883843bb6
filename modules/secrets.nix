# Files on the machine that hold a secret. Interpolated, a path of Nix is copied
# into the store, for everybody to read; so these are strings, and what is made of
# them goes through toString.
{ lib }:
{
  # What must hold of such a file, null being none.
  assertions =
    option: file:
    lib.optionals (file != null) [
      {
        assertion = !(builtins.isPath file || lib.hasPrefix builtins.storeDir (toString file));
        message = "${option} must not be in the store, where everybody can read it, and a path of Nix is copied there: give the path on the machine, as a string.";
      }
      {
        # A unit with a credential in a path with a space does not start: its
        # executor can't read what systemd wrote down for it (257).
        assertion = lib.match "/[^[:cntrl:][:space:]\\]+" (toString file) != null;
        message = "${option}: systemd takes no path with a space, a control character or a backslash.";
      }
    ];

  # LoadCredential= of it, where % introduces what systemd puts in.
  credential = id: file: "${id}:${lib.replaceStrings [ "%" ] [ "%%" ] (toString file)}";
}
