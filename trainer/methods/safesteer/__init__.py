"""SafeSteer: localized on-policy distillation from a steered safety teacher (arXiv 2606.02530)."""
