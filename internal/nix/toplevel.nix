# Evaluates nixosConfigurations.CONFIGURATION of a locked flake whose source and
# inputs are valid store paths, without Nix's fetchers.
#
# builtins.getFlake reads, hashes and stores every source anew, even a source that
# is a valid store path. Here each source is named by its NAR hash alone:
# builtins.fetchTarball returns the store path of a NAR hash at once if that path
# is valid, and copies nothing. The attributes of a flake and of its inputs are
# those that builtins.getFlake of the same version gives for the same lock file
# (the manual of Nix, "nix flake", "Flake inputs" and "Lock files").
{
  # narHash is the hash of the flake's source, dir the flake's directory in it.
  narHash,
  dir,
  configuration,
  # available is a JSON list: the hashes of the sources that are valid here.
  available,
}:
let
  inherit (builtins)
    compareVersions
    elem
    foldl'
    fromJSON
    head
    isList
    mapAttrs
    pathExists
    readFile
    removeAttrs
    stringLength
    substring
    tail
    ;

  hashes = fromJSON available;

  atLeast = version: compareVersions builtins.nixVersion version >= 0;

  # Versions of Nix differ in what they give for an input that is no flake, and for
  # one that is a directory of the flake that names it. Earlier ones take the
  # directory for a source of its own, and give of what is no flake its source alone.
  earlier = !(atLeast "2.29.2" || atLeast "2.28.5" && !(atLeast "2.29"));
  # In between, the attribute dir of a directory of the flake was ignored.
  dirOfRelative = earlier || atLeast "2.36";

  fetch =
    narHash:
    builtins.fetchTarball {
      name = "source";
      # Nothing is at this address. Nix would ask there if the path were not valid.
      url = "file:///source";
      sha256 = narHash;
    };

  # div and mod round down, for times before 1970.
  div = a: b: if a < 0 then -((b - 1 - a) / b) else a / b;
  mod = a: b: a - b * div a b;

  # date formats seconds since 1970 as YYYYMMDDhhmmss in UTC. A year begins in
  # March here, so that a leap day is the last day of its year.
  date =
    seconds:
    let
      days = div seconds 86400 + 719468; # since 1 March of the year 0
      era = div days 146097; # of 400 years
      dayOfEra = days - era * 146097;
      yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
      dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
      month = (5 * dayOfYear + 2) / 153; # 0 is March
      day = dayOfYear - (153 * month + 2) / 5 + 1;
      january = month >= 10;
      year = yearOfEra + era * 400 + (if january then 1 else 0);
      pad = width: n: let s = toString n; in if stringLength s < width then pad width "0${s}" else s;
      ofDay = mod seconds 86400;
    in
    foldl' (s: n: s + pad 2 n) (pad 4 year) [
      (if january then month - 9 else month + 3)
      day
      (ofDay / 3600)
      (mod (ofDay / 60) 60)
      (mod ofDay 60)
    ];

  # info gives the attributes of a fetched source that its lock entry leads to.
  info =
    locked:
    {
      outPath = fetch locked.narHash;
      inherit (locked) narHash;
    }
    // (if locked ? rev then { inherit (locked) rev; shortRev = substring 0 7 locked.rev; } else { })
    // (if locked ? revCount then { inherit (locked) revCount; } else { })
    // (if locked ? lastModified then { inherit (locked) lastModified; lastModifiedDate = date locked.lastModified; } else { })
    // (if locked.type or "" == "git" then { submodules = locked.submodules or false; } else { });

  self = info {
    type = "path";
    inherit narHash;
    lastModified = 0;
  };

  below = path: dir: if dir == "" then path else path + "/" + dir;

  lock =
    let
      file = below self.outPath dir + "/flake.lock";
    in
    if pathExists file then
      overridden (fromJSON (readFile file))
    else
      {
        root = "root";
        nodes.root = { };
      };

  # What a lock file before version 7 has in info overrides what is locked, also in one
  # of version 7.
  overridden =
    lock:
    lock
    // {
      nodes = mapAttrs (
        _: node: node // (if node ? locked then { locked = node.locked // (node.info or { }); } else { })
      ) lock.nodes;
    };

  # resolve returns the node that an input names: itself, or a path of inputs from
  # the root on ("follows").
  resolve = input: if isList input then follow lock.root input else input;
  follow = node: path: if path == [ ] then node else follow (resolve lock.nodes.${node}.inputs.${head path}) (tail path);

  isRelative = name: node: name != lock.root && node.locked.type == "path" && substring 0 1 node.locked.path != "/";

  # parentOf returns the flake that a relative input is a directory of.
  parentOf = node: nodes.${follow lock.root (node.parent or [ ])};
  relative = node: (parentOf node).path + ("/" + node.locked.path);

  source =
    name: node:
    if name == lock.root then
      self
    else if isRelative name node then
      (parentOf node).source // (if earlier then { outPath = relative node; } else { })
    else if node.locked ? name then
      throw "flake.lock states a name of the input '${name}', which Nix does not take"
    else if !(node.locked ? narHash) then
      throw "flake.lock states no narHash of the input '${name}'"
    else if !(elem node.locked.narHash hashes) then
      throw "the input '${name}' (NAR hash ${node.locked.narHash}) is not in the store"
    else
      info (removeAttrs node.locked [ "dir" ]);

  nodes = mapAttrs (
    name: node:
    let
      sourceInfo = source name node;
      outPath =
        if name == lock.root then
          below sourceInfo.outPath dir
        else if isRelative name node then
          below (relative node) (if dirOfRelative then node.locked.dir or "" else "")
        else
          below sourceInfo.outPath (node.locked.dir or "");
      flake = import (outPath + "/flake.nix");
      inputs = mapAttrs (_: input: nodes.${resolve input}.value) (node.inputs or { });
      outputs = flake.outputs (inputs // { self = value; });
      value =
        if node.flake or true then
          outputs // sourceInfo // { inherit inputs outputs outPath sourceInfo; _type = "flake"; }
        else if earlier then
          sourceInfo
        else
          sourceInfo // { inherit outPath sourceInfo; };
    in
    {
      inherit value;
      source = sourceInfo;
      path = outPath;
    }
  ) lock.nodes;

  toplevel = nodes.${lock.root}.value.nixosConfigurations.${configuration}.config.system.build.toplevel;
in
{
  # An attribute outPath would make Nix print this set as that string alone.
  derivation = builtins.unsafeDiscardStringContext toplevel.drvPath;
  output = builtins.unsafeDiscardStringContext toplevel.outPath;
  inherit (toplevel) system;
}
