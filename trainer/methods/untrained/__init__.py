"""Nothing is trained: models that are there already are compared."""
