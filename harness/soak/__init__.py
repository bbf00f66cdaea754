"""A seeded random walk over all that tenants do concurrently; each answer is compared with its adapter's output alone.

`walk` drives an engine and a catalog in this process, `http.walk` a real server; `oracle` knows the right answers and
nothing about the engine. `python -m harness.soak --seed 7 --minutes 60` runs both.
"""
