"""Adapters made elsewhere become artifacts, and artifacts become PEFT folders: exactly, or not at all.

Whatever cannot be expressed without changing an answer is refused, naming the tensor or field. `source` is the way in,
`result` the way to disk, `peft_export` the way out. Importing the package loads no torch; those modules do.
"""
