# The script that goes on from firmware to the boot host. It is embedded into
# ec-ipxe.efi and ec-undionly.kpxe, and served as autoexec.ipxe, which a stock
# ipxe.efi asks for by itself: https://ipxe.org/embed
#
# Where the network offers one file name to everybody (UniFi's options 66 and
# 67), iPXE would be told to load itself again. So it does not look at the file
# name that DHCP gives. It tries a few times, while a switch brings its port up,
# and then hands over to the firmware's next boot device.
#
# Nothing secret is in here: the token comes with chain.ipxe.
{
  # Address of the boot host, which answers by TFTP.
  listenIP,
}:
''
  #!ipxe
  set ec-dhcp:int32 0
  :again
  inc ec-dhcp
  echo every.channel: address by DHCP, attempt ''${ec-dhcp} of 5
  dhcp && goto configured ||
  iseq ''${ec-dhcp} 5 && goto failed ||
  sleep 3
  goto again
  :configured
  chain --autofree tftp://${listenIP}/chain.ipxe ||
  iseq ''${ec-dhcp} 5 && goto failed ||
  sleep 3
  goto again
  :failed
  echo every.channel: no boot host at ${listenIP}; leaving it to the firmware
  exit 1
''
