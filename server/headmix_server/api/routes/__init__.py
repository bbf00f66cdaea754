"""One router per resource; each translates between a body and the parts behind it."""
