"""Adapters made for a test or a measurement: artifacts with random values, broken files, PEFT LoRAs, records."""
