"""Is this machine fit for this run? All of it by `python -m trainer.doctor`, the cheap part before every stage."""
