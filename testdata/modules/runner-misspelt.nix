# modules: ec-runner
# fails: The option `services.every-channel.runner.authorizedKey' does not exist
{
  services.every-channel.runner.authorizedKey = [ ];
}
