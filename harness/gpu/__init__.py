"""Proving headmix on a GPU machine that has torch but no package registry: what to carry there, and what to run."""
