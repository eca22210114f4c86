"""W&B beside the run, and the same numbers in a local file that depends on nothing."""
