"""Two tenants next to a hostile third: nobody else's bytes, no error, and what it costs them in time.

`make hostile` plays every attack on the real base; `tests/server/test_hostile_tenant.py` runs them without a model.
Each attack is one function in `before_a_key`, `inference`, `uploads` or `management`, with an entry in its ATTACKS.
"""
