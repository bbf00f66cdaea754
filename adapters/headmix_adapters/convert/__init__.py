"""Converts adapters made elsewhere to artifacts, and artifacts to PEFT folders: exactly, or not at all.

Anything that cannot be expressed without changing an answer is refused, naming the tensor or field. `source` imports,
`result` writes to disk, `peft.export` exports. Importing the package does not load torch; those modules do.
"""
