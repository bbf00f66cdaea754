"""The API process's side of the engine's socket: requests out, answers delivered to their callers. No HTTP here."""
