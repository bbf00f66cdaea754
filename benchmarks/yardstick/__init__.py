"""The yardstick: headmix next to what a user would pick instead, on one machine, in one run (`make bench`)."""
