"""Where each adapter is, from disk to a slot on the device, and which tenants are charged for its place."""
