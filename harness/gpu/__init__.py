"""Tests headmix on a GPU machine that has torch but no package registry: what to copy there, and what to run."""
