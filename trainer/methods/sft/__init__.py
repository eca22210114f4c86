"""Supervised fine-tuning, as TRL has it."""
