# IPv4 networks in CIDR notation, with nothing but builtins.
let
  octets =
    s:
    let
      m = builtins.match "([0-9]{1,3})\\.([0-9]{1,3})\\.([0-9]{1,3})\\.([0-9]{1,3})" s;
      # toString of what fromJSON reads is the number without leading zeros,
      # which some programs take for octal.
      ok = o: builtins.match "0|[1-9][0-9]*" o != null && builtins.fromJSON o <= 255;
    in
    if m != null && builtins.all ok m then map builtins.fromJSON m else null;

  power = n: if n == 0 then 1 else 2 * power (n - 1);

  # The bits of one octet of a mask, of which `bits` (0 to 8) are set.
  maskOctet = bits: 256 - power (8 - bits);

  clamp =
    n:
    if n < 0 then
      0
    else if n > 8 then
      8
    else
      n;

  split =
    s:
    let
      m = builtins.match "([0-9.]+)/([0-9]|[12][0-9]|3[0-2])" s;
      address = octets (builtins.elemAt m 0);
    in
    if m == null || address == null then
      null
    else
      {
        inherit address;
        prefix = builtins.fromJSON (builtins.elemAt m 1);
      };

  maskOf =
    prefix:
    map (i: maskOctet (clamp (prefix - 8 * i))) [
      0
      1
      2
      3
    ];

  dotted = o: builtins.concatStringsSep "." (map toString o);
in
rec {
  isAddress = s: octets s != null;

  # Whether s is a network: an address with a prefix whose host bits are 0.
  isNetwork =
    s:
    let
      n = split s;
    in
    n != null && network s == dotted n.address;

  # "10.1.2.0/24" -> "10.1.2.0"
  network =
    s:
    let
      n = split s;
    in
    dotted (
      map (i: builtins.bitAnd (builtins.elemAt n.address i) (builtins.elemAt (maskOf n.prefix) i)) [
        0
        1
        2
        3
      ]
    );

  # "10.1.2.0/24" -> "255.255.255.0"
  netmask = s: dotted (maskOf (split s).prefix);

  # Whether the address is in the network.
  contains = net: address: network "${address}/${toString (split net).prefix}" == network net;
}
