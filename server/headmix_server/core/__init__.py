"""The system's vocabulary: types, messages, errors, settings, metrics, logging. No torch, no web."""
