"""Direct preference optimisation, as TRL has it."""
