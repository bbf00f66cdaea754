"""Fuzzing of everything strangers' bytes reach: `make fuzz TARGET=multipart MINUTES=60`.

A target is a Hypothesis strategy of bytes and a check of them. Atheris steers the strategy by the coverage of Python
code (Hypothesis' `fuzz_one_input`); without it Hypothesis draws at random. What a target's check answers (accepted,
or how it was refused) sorts inputs: the shortest input of each answer is kept in tests/fuzz/corpus, which the fast
suite replays.
"""
