"""What a client's grammar may cost, wherever it is read: checked in the API process, enforced in the engine process."""

from llguidance import LLParserLimits

MAX_CHARACTERS = 65_536
"""Of a schema, a regular expression, a grammar or all choices together."""

MAX_TOOL_CHARACTERS = 262_144
"""Of the grammar of all tools of a request; the schema of each is bound by `MAX_CHARACTERS`."""

MAX_CHOICES = 10_000

TRIAL_SECONDS = 0.2
"""Processor time that writing a grammar and trying it out may take: the library cannot be interrupted."""

STEP_SECONDS = 0.03
"""Processor time that finding the tokens of one step may take in the trial."""


def parser_limits() -> LLParserLimits:
    """Return the library's limits. Its errors must not show a client's schema in our logs."""
    return LLParserLimits(
        max_items_in_row=500,
        initial_lexer_fuel=1_000_000,  # 20 ms
        step_lexer_fuel=60_000,  # 4 ms of a step
        step_max_items=20_000,  # 1 ms of a step
        max_lexer_states=5_000,  # 10 MiB of a generation; they grow with what it says
        max_grammar_size=200_000,
        verbose_errors=False,
    )
