"""The yardstick: headmix next to the alternatives a user would consider, on one machine, in one run (`make bench`)."""
