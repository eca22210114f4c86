"""What a run will need, before anything starts: `python -m trainer.plan` with the same overrides."""
