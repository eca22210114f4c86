"""Kahneman-Tversky optimisation (arXiv 2402.01306), as TRL has it."""
