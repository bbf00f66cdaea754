"""docs/method.md and its pictures from the results file; nothing on the page is written by hand except its frame."""
