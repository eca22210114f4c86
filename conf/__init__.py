"""The Hydra configs, shipped with the package as `trainer.conf`."""
