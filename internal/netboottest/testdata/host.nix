# The files of a boot host for these tests: what modules/ec-netboot renders,
# with Debian's programs, and unit files as text.
{
  proxyDhcp,
  tag,
  release, # URL
  modules, # modules/ec-netboot
}:
let
  netboot = import modules;
  inherit (netboot) paths;
  listenIP = "10.77.0.2";
  etc = "/etc/every-channel-netboot";

  text =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  line =
    key: v:
    if builtins.isList v then builtins.concatStringsSep "" (map (line key) v) else "${key}=${text v}\n";
  section =
    name: attrs:
    "[${name}]\n"
    + builtins.concatStringsSep "" (map (k: line k attrs.${k}) (builtins.attrNames attrs));
  list = l: builtins.concatStringsSep " " l;
  unit =
    u:
    section "Unit" (
      {
        Description = u.description;
        Documentation = list (u.documentation or [ ]);
        Wants = list (u.wants or [ ]);
        After = list (u.after or [ ]);
        PartOf = list (u.partOf or [ ]);
      }
      // (u.unitConfig or { })
    );

  units = netboot.units {
    ecVerify = "/usr/local/bin/ec-verify";
    nginx = "/usr/sbin/nginx";
    dnsmasq = "/usr/sbin/dnsmasq";
    verifyConfig = "${etc}/ec-verify.json";
    nginxConf = "${etc}/nginx.conf";
    dnsmasqConf = "${etc}/dnsmasq.conf";
    url = "http://${listenIP}";
    inherit tag proxyDhcp;
    tarball = "ec-runner-x86_64-netboot-*.tar.gz";
    tftpFiles = {
      "ec-ipxe.efi" = "/srv/ipxe/ec-ipxe.efi";
      "ec-undionly.kpxe" = "/srv/ipxe/ec-undionly.kpxe";
      "autoexec.ipxe" = "${etc}/autoexec.ipxe";
    };
    chainTokenFile = "${etc}/chain-token";
    refresh = "hourly";
  };
in
{
  "${etc}/dnsmasq.conf" = netboot.dnsmasqConf {
    interface = "eth0";
    inherit listenIP;
    inherit (paths) tftpRoot pidFile;
    proxyDhcp =
      if proxyDhcp then
        {
          subnet = "10.77.0.0/24";
          bios = "ec-undionly.kpxe";
          efi = "ec-ipxe.efi";
          efiArchitectures = netboot.efiArchitectures.x86_64;
        }
      else
        null;
  };
  "${etc}/nginx.conf" = netboot.nginxConf {
    inherit listenIP;
    allowedCIDRs = [ "10.77.0.0/24" ];
    wwwDir = paths.www;
    runtimeDir = paths.runtime;
  };
  "${etc}/autoexec.ipxe" = netboot.bootScript { inherit listenIP; };
  "${etc}/ec-verify.json" = builtins.toJSON {
    stateDir = paths.verifyState;
    release = {
      source = [ release ];
      accept = [ tag ];
    };
    trust.keys = [
      {
        name = "ci";
        file = "${etc}/ci.pub";
      }
    ];
  };
  "/etc/sysusers.d/every-channel-netboot.conf" = "u ${paths.user} - \"boot host\"\n";
}
// builtins.listToAttrs (
  map (name: {
    name = "/etc/systemd/system/${name}.service";
    value = unit units.services.${name} + section "Service" units.services.${name}.serviceConfig;
  }) (builtins.attrNames units.services)
  ++ map (name: {
    name = "/etc/systemd/system/${name}.timer";
    value = unit units.timers.${name} + section "Timer" units.timers.${name}.timerConfig;
  }) (builtins.attrNames units.timers)
)
