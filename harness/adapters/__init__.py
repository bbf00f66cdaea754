"""Adapters made for tests and benchmarks: artifacts with random values, broken files, PEFT LoRAs, records."""
