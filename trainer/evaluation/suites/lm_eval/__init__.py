"""Capability as lm-evaluation-harness measures it."""
