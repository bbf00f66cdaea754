"""Speculation without a draft model: tokens guessed ahead, computed together, and kept where the guesses were right."""
