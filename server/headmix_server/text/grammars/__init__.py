"""Structured output: from what clients write to grammars, and from grammars to the tokens they allow."""
