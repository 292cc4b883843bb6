# Unit files, as NixOS writes them: options of [Unit] by their systemd names, a
# list as one line for each element, and on each service a PATH.
{ lib }:
let
  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  lines =
    section:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (
          key: v: map (each: "${key}=${value each}\n") (if v == null then [ ] else lib.toList v)
        ) section
      )
    );
  block = name: section: lib.optionalString (lines section != "") "[${name}]\n${lines section}\n";

  joined = list: if list == [ ] then null else lib.concatStringsSep " " list;
  unitSection =
    u:
    {
      Description = if u.description == "" then null else u.description;
      Documentation = joined u.documentation;
      After = joined u.after;
      Before = joined u.before;
      Wants = joined u.wants;
      Requires = joined u.requires;
      BindsTo = joined u.bindsTo;
      PartOf = joined u.partOf;
      Conflicts = joined u.conflicts;
      OnFailure = joined u.onFailure;
      OnSuccess = joined u.onSuccess;
    }
    // u.unitConfig;

  quoted = text: lib.replaceStrings [ "%" ] [ "%%" ] (builtins.toJSON text);

  textOf = {
    service =
      u:
      block "Unit" (unitSection u)
      + block "Service" (
        {
          Environment = lib.mapAttrsToList (k: v: quoted "${k}=${toString v}") u.environment ++ [
            (quoted "PATH=${lib.makeBinPath u.path}")
          ];
          ExecStart = if u.script == "" then null else "/bin/sh -c ${quoted u.script}";
        }
        // u.serviceConfig
      );
    timer = u: block "Unit" (unitSection u) + block "Timer" u.timerConfig;
    slice = u: block "Unit" (unitSection u) + block "Slice" u.sliceConfig;
    socket =
      u:
      block "Unit" (unitSection u)
      + block "Socket" ({ ListenStream = u.listenStreams; } // u.socketConfig);
    path = u: block "Unit" (unitSection u) + block "Path" u.pathConfig;
    target = u: block "Unit" (unitSection u);
  };
in
# name of unit = its text. What a package brings under the same name is not
# known here: whoever reads them puts the two together, as NixOS does.
systemd:
lib.concatMapAttrs (
  kind: text: lib.mapAttrs' (n: u: lib.nameValuePair "${n}.${kind}" (text u)) systemd."${kind}s"
) textOf
