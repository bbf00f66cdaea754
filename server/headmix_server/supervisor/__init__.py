"""The engine process's life: started, watched, replaced when it dies, stopped."""
