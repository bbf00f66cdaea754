"""The words of the system: types, messages, errors, settings, metrics, logging. No torch, no web."""
