# What the systems are made with: an input of the flake, locked by its hash.
{ system, tools }:
{
  # mk NAME ARGUMENTS: a derivation whose script runs in busybox's shell with
  # busybox's programs and no others. Every other argument is in the script's
  # environment, as with any derivation.
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
            . ${./functions.sh}
            ${script}
          ''
        ];
      }
    );
}
