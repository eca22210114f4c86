"""Which packages there are: every folder that is one, so that a new kind is packaged without a line here. The rest stands in
pyproject.toml."""

from setuptools import find_packages, setup

_EVERY = find_packages(include=["trainer", "trainer.*", "launchers", "launchers.*"])
setup(packages=[*_EVERY, "trainer.conf", "hydra_plugins.keel"])
