"""How far a model has drifted from its base, where nothing has to be generated or judged."""
