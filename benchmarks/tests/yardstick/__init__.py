"""Tests of the yardstick."""
