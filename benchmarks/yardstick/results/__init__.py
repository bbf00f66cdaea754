"""The results of a run: statistics, goals, the results file and its page."""
