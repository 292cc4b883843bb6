# Whether systemd understands calendar events, asked when the system is built. A
# line OnCalendar= that it does not understand it logs and passes over: the timer
# is active, and never fires.
{
  lib,
  pkgs,
  # The systemd that is to understand them.
  systemd,
}:
# Option = event, null for none. A list, for system.checks: empty where what is
# built here can't be run here.
events:
let
  set = lib.filterAttrs (_: event: event != null) events;
  line = option: event: "check ${lib.escapeShellArg option} ${lib.escapeShellArg event}\n";
in
lib.optional (set != { } && pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) (
  pkgs.runCommand "every-channel-calendar-events" { } ''
    check() {
      # A time zone at its end is one for systemd where it has the zone's file,
      # and a build has none at that place.
      event=$2
      zone=''${event##* }
      if [ "$zone" != "$event" ] && [ -f "${pkgs.tzdata}/share/zoneinfo/$zone" ]; then
        event=''${event% *}
      fi
      # A fixed time, for the same answer from whoever builds this whenever.
      if ! said=$(${systemd}/bin/systemd-analyze calendar --base-time='2026-01-01 UTC' -- "$event" 2>&1); then
        echo "$1: \"$2\" is no calendar event of systemd.time(7): $said" >&2
        exit 1
      fi
      case $said in *'Next elapse: never'*)
        echo "$1: \"$2\" is past, and never comes again" >&2
        exit 1
        ;;
      esac
    }
    ${lib.concatStrings (lib.mapAttrsToList line set)}
    touch $out
  ''
)
