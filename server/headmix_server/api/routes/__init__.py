"""One router per resource; each translates between request bodies and the components of `ApiState`."""
