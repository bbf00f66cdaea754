"""Tests of the benchmarks themselves; in a package, so that the import contracts cover them."""
