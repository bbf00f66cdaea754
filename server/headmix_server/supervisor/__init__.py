"""The life of the engine process: started, watched, replaced when it dies, stopped."""
