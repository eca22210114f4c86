"""From a composed Hydra config to frozen dataclasses, with every problem reported at once."""
