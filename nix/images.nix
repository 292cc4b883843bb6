# The images of one architecture, as packages: what the long attribute paths of
# docs/RUNNER_IMAGES.md build.
{
  self,
  lib,
  system,
}:
let
  arch = lib.removeSuffix "-linux" system;
  build = name: self.nixosConfigurations."ec-runner-${arch}${name}".config.system.build;
in
{
  runner = (build "").toplevel;
  netboot = (build "-netboot").netboot;
}
// lib.optionalAttrs (arch == "x86_64") { iso = (build "-iso").isoImage; }
// lib.optionalAttrs (arch == "aarch64") { sdimage = (build "-sdimage").sdImage; }
