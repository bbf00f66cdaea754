"""Two honest tenants next to a hostile one: they must get no foreign bytes and no errors; the delay is measured.

`make hostile` runs every attack on the real base; `tests/server/test_hostile_tenant.py` runs them without a model.
Each attack is one function in `before_a_key`, `inference`, `uploads` or `management`, with an entry in its ATTACKS.
"""
