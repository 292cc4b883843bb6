# modules: ec-runner
{ testFlake, ... }:
let
  # As with inputs.tool.inputs.itself.follows = "".
  flake = testFlake // {
    inputs = testFlake.inputs // {
      tool = {
        inherit (testFlake.inputs.nixpkgs) outPath;
        inputs.itself = flake;
      };
    };
  };
in
{
  services.every-channel.runner = {
    enable = true;
    inherit flake;
  };
}
