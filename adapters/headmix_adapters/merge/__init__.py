"""Merges adapters of one base into a new adapter: the weighted sum of what each of them adds, exactly.

`terms` reads an artifact's terms, `join` adds them up by joining ranks, `reduce` lowers a rank by SVD, `pruned` has
TIES and DARE, `absolute` what is not an addition (heads, tokens, templates), `merge` puts the new artifact together.
Importing the package does not load torch; those modules do.
"""
