# docs/modules.md, from the modules' own options. hack/check-modules keeps the
# file equal to this.
{ lib, options }:
let
  prefix = "services.every-channel.";
  ours = lib.filter (o: lib.hasPrefix prefix o.name && !o.internal && o.visible != false) (
    lib.optionAttrSetToDocList options
  );
  # services.every-channel.ec-node.enable belongs to services.every-channel.ec-node.
  moduleOf = o: lib.concatStringsSep "." (lib.take 3 (lib.splitString "." o.name));

  value =
    v:
    if v ? text then
      if v._type or null == "literalMD" then " ${v.text}" else code v.text
    else
      code (lib.generators.toPretty { } v);
  code =
    text:
    if lib.hasInfix "\n" text then "\n\n```nix\n${lib.removeSuffix "\n" text}\n```" else " `${text}`";
  # Where a description is read as Markdown, these words are NixOS' own.
  markdown =
    lib.replaceStrings
      [ "{file}`" "{option}`" "{command}`" "{manpage}`" ]
      [ "`" "`" "`" "`" ];

  entry = o: ''
    ### `${lib.removePrefix "${moduleOf o}." o.name}`

    ${markdown (lib.removeSuffix "\n" (o.description.text or o.description))}

    - type: `${o.type}`
    ${lib.optionalString (o ? default) "- default:${value o.default}\n"}${
      lib.optionalString (o ? example) "- example:${value o.example}\n"
    }
  '';
  section = module: entries: "## ${module}\n\n" + lib.concatMapStrings entry entries;
in
''
  # Options of the modules

  What `nixosModules` declare, written from them by `hack/check-modules
  --write-docs`. [RUNNER_IMAGES.md](RUNNER_IMAGES.md) says what they are for.

''
+ lib.removeSuffix "\n" (lib.concatStrings (lib.mapAttrsToList section (lib.groupBy moduleOf ours)))
