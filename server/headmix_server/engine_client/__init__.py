"""The API process's end of the engine's socket: requests out, answers filed to whoever waits. No HTTP here."""
