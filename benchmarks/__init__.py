"""Measurements against the obvious alternatives: `python -m benchmarks.NAME [--smoke] [--json FILE]`."""
