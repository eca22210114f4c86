"""Checkpoints on disk: written whole, verified, found again, brought to another number of ranks."""
