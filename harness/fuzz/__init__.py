"""Fuzzing of everything that untrusted bytes reach: `make fuzz TARGET=multipart MINUTES=60`.

A target is a Hypothesis strategy for bytes and a check of them. Atheris guides the strategy by the coverage of Python
code (Hypothesis' `fuzz_one_input`); without it Hypothesis draws at random. Inputs are grouped by what the target's
check returns (accepted, or how it was refused): the shortest input of each group is kept in tests/fuzz/corpus, which
the fast suite replays.
"""
