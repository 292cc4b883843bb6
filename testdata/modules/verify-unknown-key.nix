# modules: ec-verify
# refused: unknown key "relase"
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    settings = {
      relase.keep = 3;
      release.source = [ "/srv/releases" ];
      release.accept = [ "latest" ];
      trust.keys = [
        {
          name = "ci";
          file = "/etc/ec-verify/ci.pub";
        }
      ];
    };
  };
}
