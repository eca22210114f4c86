"""One folder per method; its section.py answers for it."""
