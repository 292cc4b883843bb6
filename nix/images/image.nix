# What all images have in common.
{
  # They bring a root of their own, and have none of the disk's partitions.
  services.every-channel.overlay-root.enable = false;
}
