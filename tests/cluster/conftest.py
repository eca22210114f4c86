"""A Slurm for the tests of this directory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.slurm_lab import Cluster, missing_programs


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes. Skipped where Slurm is not installed, unless KEEL_REQUIRE_SLURM=1 asks for a failure instead."""
    if missing := missing_programs():
        reason = f"no {', '.join(missing)}: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
        if os.environ.get("KEEL_REQUIRE_SLURM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with Cluster(nodes=2) as running:
        yield running
