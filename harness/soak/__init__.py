"""A seeded random walk over everything tenants do at once, each answer held against its adapter's output alone.

`walk` drives an engine and a catalog in this process, `http_walk` a real server; `oracle` knows what is right and
nothing of the engine. `python -m harness.soak --seed 7 --minutes 60` runs both.
"""
