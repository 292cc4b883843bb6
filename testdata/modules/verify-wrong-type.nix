# modules: ec-verify
# fails: settings.release.source' is not of type
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings.release.source = "/srv/releases";
  };
}
