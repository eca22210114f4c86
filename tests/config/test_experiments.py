"""Every experiment that ships composes; those of the sandbox are ready to start as they are."""

from __future__ import annotations

import pytest
import yaml

from tests.conftest import ROOT
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import to_mapping
from trainer.config.training import stage_fields
from trainer.errors import ConfigError
from trainer.pipeline.chain import chain

FOLDER = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
LEFT_TO_THE_USER = ("data.", "evaluation.", "judge.")  # files and models that the published settings need


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_and_lacks_at_most_the_users_own_files(experiment: str) -> None:
    of_a_package = experiment.startswith("real/")  # or what another experiment left; read in tests/real
    values = composed([f"experiment={experiment}", *(["model.path=sandbox"] if of_a_package else [])])
    try:
        config = load_config(values)
    except ConfigError as error:
        assert experiment.startswith(("paper/", "real/"))
        assert all((problem.startswith(LEFT_TO_THE_USER) and "needs" in problem) or "nothing to ask" in problem
                   for problem in error.problems), error.problems  # fmt: skip
        return
    values = to_mapping(config)
    assert yaml.safe_load(yaml.safe_dump(values)) == values, "the same config would be another one when the run is resumed"
    stages = chain(config)
    assert stages[-1].name == "evaluate"
    assert {training.stage for training in config.training} <= {stage.name for stage in stages}
    assert {stage.name for stage in stages if not stage.trains} - {"evaluate"} == set(config.method.untrained(config))


@pytest.mark.parametrize("debug", ["fast", "one_step"])
@pytest.mark.parametrize(
    "experiment", [name for name in EXPERIMENTS if "/" not in name and name != "evaluate"]
)  # tests/real has those
def test_every_experiment_has_a_fast_form(experiment: str, debug: str) -> None:
    config = load_config(composed([f"experiment={experiment}", f"debug={debug}"]))
    assert all(0 < stage_fields(config, training)["max_steps"] <= 4 for training in config.training)
    assert getattr(config.data, "limit", None) in (32, 64)
    if debug == "fast" and config.evaluation is not None and config.evaluation.asks:
        assert len(config.evaluation.items()) <= 80
