"""Two tenants beside a hostile third: nobody else's bytes, no error, and what it costs them in time to a first token.

`make hostile` measures it on the real base; `tests/server/test_hostile_tenant.py` runs it without a model.
"""
