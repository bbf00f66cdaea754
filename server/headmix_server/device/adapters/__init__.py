"""Adapters on the device: files, slots, and the storage behind them."""
