"""Trying a grammar out before the engine sees it: what is too slow here would hold up everybody's steps there.

The library bounds its work only roughly: a repetition of repetitions took 0.7 s in one step, a multiple of a large
prime 12 s to compile. So a grammar is compiled and walked through by chance, in a process that can be ended.
"""

import random
import time

from headmix_server.core.grammar import GrammarError, Matcher
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.limits import STEP_SECONDS

STEPS = 24
WALKS = 2
_PATIENCE = 4
"""Steps that may be slow: the first ones of a grammar fill caches."""


def try_grammar(compiler: TokenCompiler, grammar: str) -> None:
    """Compile a grammar and generate texts of it by chance.

    Raises:
        GrammarError: it cannot be compiled, allows no text, or its steps take too long.
    """
    start = compiler.compile(grammar, None)
    slow = 0
    for seed in range(WALKS):
        matcher, chance = start.copy(), random.Random(seed)  # noqa: S311 - any walk will do
        for _ in range(STEPS):
            began = time.process_time()
            ended = _step(matcher, chance)
            slow += time.process_time() - began > STEP_SECONDS
            if slow > _PATIENCE:
                raise GrammarError("finding out which tokens may come next takes too long")
            if ended:
                break


def _step(matcher: Matcher, chance: random.Random) -> bool:
    """Take one of the allowed tokens; return whether the text is complete."""
    mask = matcher.allowed()
    places = [place for place, byte in enumerate(mask) if byte]
    if not places:
        raise GrammarError("no text fits")
    place = chance.choice(places)
    bits = [bit for bit in range(8) if mask[place] >> bit & 1]
    return matcher.advance(8 * place + chance.choice(bits))
