"""Where each adapter is, from disk to a slot on the device, and who pays for its place."""
