# What all images have in common.
{ }
