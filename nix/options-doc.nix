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

  The options of `nixosModules`. `hack/check-modules --write-docs` writes this
  page from the modules. [RUNNER_IMAGES.md](RUNNER_IMAGES.md) describes their
  purpose.

  The modules are for nixpkgs 26.05, the flake's input. They also support
  journald's options in their form from nixpkgs 26.11 on.

  ## Evaluating a machine without nixpkgs

  The modules' own tests use a substitute for nixpkgs (`testdata/nixpkgs`).
  With it you can evaluate a machine that imports the modules. You need Nix
  2.18 or newer, and in `NIXPKGS` a directory with nixpkgs' `lib/`. In this
  repository's directory:

  ```sh
  cp -r testdata/nixpkgs /tmp/stand-in
  cp -rL "$NIXPKGS/lib" /tmp/stand-in/lib
  cat >/tmp/machine.nix <<'EOF'
  { ec-verify, ... }:
  {
    services.every-channel.ec-verify = {
      enable = true;
      package = ec-verify;
      settings.release.source = [ "/srv/releases" ];
      settings.release.accept = [ "latest" ];
      settings.trust.keys = [ { name = "ci"; file = "/etc/ec-verify/ci.pub"; } ];
      onCalendar = "*-*-* 04:00:00";
    };
  }
  EOF
  nix eval --impure --json --expr 'import /tmp/stand-in/case.nix {
    nixpkgs = "path:/tmp/stand-in";
    tree = ./.;
    modules = [ "ec-verify.nix" ];
    file = /tmp/machine.nix;
  }' | jq -r '.units["ec-verify.timer"]'
  ```

  `.units` has the units that NixOS would write, `.settings` the configuration
  for `ec-verify config check --file-only`. An option that the substitute does
  not have is an error there, and assertions are those of the modules.

''
+ lib.removeSuffix "\n" (lib.concatStrings (lib.mapAttrsToList section (lib.groupBy moduleOf ours)))
