# The files of a boot host that is no NixOS: what the module renders, with the
# programs of a distribution, and units as text. hack/netboot-host writes them; the
# tests boot machines from them. It uses nothing but builtins.
{
  # As the module's options of these names; docs/modules.md.
  listenIP,
  interface,
  hostname ? null,
  httpAllowedCIDRs,
  chainTokenFile,
  tag ? "latest",
  tarball ? "ec-runner-x86_64-netboot-*.tar.gz",
  refresh ? "hourly",
  # The network of listenIP, where ProxyDHCP is wanted.
  proxyDhcpSubnet ? null,
  # Where releases come from, and the public keys that they are believed by:
  # release.source and trust.keys of docs/configuration.md.
  source,
  keys,
  releaseTokenFile ? null,
  # Programs, and iPXE for UEFI and for a BIOS (null for none), as files.
  ecVerify ? "/usr/local/bin/ec-verify",
  nginx ? "/usr/sbin/nginx",
  dnsmasq ? "/usr/sbin/dnsmasq",
  efiFile ? "/usr/lib/ipxe/ipxe.efi",
  biosFile ? "/usr/lib/ipxe/undionly.kpxe",
}:
let
  netboot = import ./.;
  inherit (netboot) paths address;
  etc = "/etc/${paths.name}";
  host = if hostname == null then listenIP else hostname;
  proxyDhcp = proxyDhcpSubnet != null;

  # These stand in configuration files and units as they are. The patterns of names
  # are those of the module's options.
  is = pattern: v: builtins.isString v && builtins.match pattern v != null;
  label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?";
  isFile = v: is "/[^\n\r]*" (toString v);
  files = {
    inherit
      chainTokenFile
      ecVerify
      nginx
      dnsmasq
      efiFile
      ;
  }
  // (if releaseTokenFile == null then { } else { inherit releaseTokenFile; })
  // (if biosFile == null then { } else { inherit biosFile; });
  noFiles = builtins.filter (name: !isFile files.${name}) (builtins.attrNames files);

  check =
    if !is "[A-Za-z0-9_.-]{1,15}" interface then
      throw "interface: want the name of a network card"
    else if hostname != null && !is "${label}(\\.${label})*" hostname then
      throw "hostname: want a name such as boot.example.org"
    else if !is "[A-Za-z0-9_+][A-Za-z0-9._+-]{0,127}" tag then
      throw "tag: want 1 to 128 letters, digits and . _ + -"
    else if !is "[A-Za-z0-9._+~,@*?-]+" tarball then
      throw "tarball: want the pattern of a name"
    else if refresh != null && !is "[^\n\r]+" refresh then
      throw "refresh: want one line, a calendar event of systemd"
    else if noFiles != [ ] then
      throw "${builtins.concatStringsSep ", " noFiles}: want an absolute path"
    else if !address.isAddress listenIP then
      throw "listenIP: want an IPv4 address"
    else if httpAllowedCIDRs == [ ] || !builtins.all address.isNetwork httpAllowedCIDRs then
      throw "httpAllowedCIDRs: want networks such as 10.0.0.0/24"
    else if
      proxyDhcp && !(address.isNetwork proxyDhcpSubnet && address.contains proxyDhcpSubnet listenIP)
    then
      throw "proxyDhcpSubnet: want the network of listenIP, such as 10.0.0.0/24"
    else if keys == [ ] then
      throw "keys: without a key no release can be trusted, and none is served"
    else
      true;

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
    inherit ecVerify nginx dnsmasq;
    verifyConfig = "${etc}/ec-verify.json";
    nginxConf = "${etc}/nginx.conf";
    dnsmasqConf = "${etc}/dnsmasq.conf";
    url = "http://${host}";
    inherit
      tag
      tarball
      proxyDhcp
      chainTokenFile
      releaseTokenFile
      refresh
      ;
    tftpFiles = {
      "ec-ipxe.efi" = efiFile;
      "autoexec.ipxe" = "${etc}/autoexec.ipxe";
    }
    // (if biosFile == null then { } else { "ec-undionly.kpxe" = biosFile; });
  };
in
assert check;
{
  "${etc}/dnsmasq.conf" = netboot.dnsmasqConf {
    inherit interface listenIP;
    inherit (paths) tftpRoot pidFile;
    proxyDhcp =
      if proxyDhcp then
        {
          subnet = proxyDhcpSubnet;
          bios = if biosFile == null then null else "ec-undionly.kpxe";
          efi = "ec-ipxe.efi";
          efiArchitectures = netboot.efiArchitectures.x86_64;
        }
      else
        null;
  };
  "${etc}/nginx.conf" = netboot.nginxConf {
    inherit listenIP;
    hostname = if hostname == null then "_" else hostname;
    allowedCIDRs = httpAllowedCIDRs;
    wwwDir = paths.www;
    runtimeDir = paths.runtime;
  };
  "${etc}/autoexec.ipxe" = netboot.bootScript { inherit listenIP; };
  "${etc}/ec-verify.json" = builtins.toJSON {
    stateDir = paths.verifyState;
    release = {
      inherit source;
      accept = [ tag ];
    }
    // (if releaseTokenFile == null then { } else { tokenFile = paths.releaseTokenFile; });
    trust = { inherit keys; };
  };
  "/etc/sysusers.d/${paths.name}.conf" = "u ${paths.user} - \"boot host\"\n";
}
// builtins.listToAttrs (
  map (name: {
    name = "/etc/systemd/system/${name}.service";
    value =
      unit units.services.${name}
      + section "Service" units.services.${name}.serviceConfig
      + section "Install" { WantedBy = "multi-user.target"; };
  }) (builtins.attrNames units.services)
  ++ map (name: {
    name = "/etc/systemd/system/${name}.timer";
    value =
      unit units.timers.${name}
      + section "Timer" units.timers.${name}.timerConfig
      + section "Install" { WantedBy = "timers.target"; };
  }) (builtins.attrNames units.timers)
)
