"""`headmix run-batch`: the lines of a local file answered into another, by a server or by one started for it."""
