# modules: ec-verify
# fails: The option `services.every-channel.ec-verify.setting' does not exist
{ ec-verify, ... }:
{
  services.every-channel.ec-verify = {
    enable = true;
    package = ec-verify;
    setting = { };
  };
}
