"""A run is a chain of stages; each takes artifacts and a config and leaves one directory with a manifest."""
