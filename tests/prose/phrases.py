"""Phrases that must not come back, each with what to write instead.

A phrase joins the list once the repository is free of it. Patterns ignore case; a space matches a line break too.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that must not be written, and what to write instead."""

    pattern: str
    instead: str

    def compiled(self) -> re.Pattern[str]:
        """Return the pattern, which matches whole words only."""
        return re.compile(rf"\b(?:{self.pattern})\b", re.IGNORECASE)


PHRASES = (
    Phrase("likewise", "name what is the same, or repeat it"),
    Phrase("be it", '"whether", or a list after a colon'),
    Phrase("of ours", '"our own", or the name of the part'),
    Phrase("likeliest", '"most probable"'),
    Phrase("whoever", '"anyone who", or the noun: the client, the caller, the tenant'),
    Phrase("somebody", '"someone", or the noun'),
    Phrase("for want of", '"without", "because there is no"'),
    Phrase("as ever", '"as before", "unchanged"'),
    Phrase("apiece", '"each"'),
    Phrase("shall", '"must", "should"'),
    Phrase("thereof|therein|thereby|hereby", "a plain sentence"),
    Phrase("one a (?:token|byte|row|step|layer|term|second)", '"one per ..."'),
    Phrase("an? (?:entry|event|row|object|microsecond) a (?:token|layer|row)", '"per"'),
    Phrase(
        "(?:numbers?|frame|group|label|text) that (?:is|are) none", "say what is wrong: not finite, malformed, unknown"
    ),
    Phrase("which tenants are about|is about, heard of", '"recently active"'),
    Phrase("not yours(?: is| looks)?|not there and not yours", "adapters you don't own"),
    Phrase("will not do", "say what is missing: unavailable, unsupported"),
    Phrase("unexpected fault", '"internal error"'),
    Phrase("better a variable than a flag", "Prefer the environment variable: other users can see command-line flags."),
    Phrase("gives? each (?:row|one) its due", '"produces the result of each row"'),
    Phrase("others on the machine can read", '"other users can see"'),
    Phrase("what is not there", '"missing"'),
    Phrase("front[ -]door", '"startup gate"'),
    Phrase("under way", '"in progress"'),
    Phrase("for ever", '"forever"'),
    Phrase("(?:is|are|was|were) away", '"is unavailable"'),
    Phrase("told apart|tells? apart", '"distinguished"'),
    Phrase("tells? whether", '"return whether", "show whether"'),
    Phrase("learnt", '"learned"'),
)
