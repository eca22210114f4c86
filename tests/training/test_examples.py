"""What a trainer caches beside its dataset: found again by the next start, unless it is not what was noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.config.stage import Stage
from trainer.errors import DataError
from trainer.methods.pairs.datasets import save_dataset
from trainer.pipeline.context import StageContext
from trainer.training.examples import EXAMPLES, load_examples, vouch_for_examples


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    with StageContext(config=None, run_dir=tmp_path, stage=Stage("sft", ""), rank=0, world_size=1) as made:  # type: ignore[arg-type]
        return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_dataset([{"text": "some words"}, {"text": "more words"}], tmp_path / "data")
    return tmp_path / "data"


def tokenised(context: StageContext, data: Path) -> Any:
    """As a trainer makes it; its cache file."""
    mapped = load_examples(context, data).map(lambda row: {"length": len(row["text"])})
    assert mapped["length"] == [10, 10]
    (cache,) = mapped.cache_files
    return Path(cache["filename"])


def test_a_cache_belongs_to_the_stage_and_is_found_again(context: StageContext, data: Path) -> None:
    cache = tokenised(context, data)
    assert cache.parent == context.stage_dir / EXAMPLES
    vouch_for_examples(context)
    before = cache.stat().st_ino
    assert tokenised(context, data) == cache and cache.stat().st_ino == before


@pytest.mark.parametrize("noted", [True, False])
def test_a_cache_that_is_not_what_was_noted_is_made_again(context: StageContext, data: Path, noted: bool) -> None:
    if noted:
        vouch_for_examples(context)  # before there was a cache
    cache = tokenised(context, data)
    if noted:
        vouch_for_examples(context)
    whole = cache.read_bytes()
    cache.write_bytes(whole.replace((10).to_bytes(8, "little"), (11).to_bytes(8, "little")))
    assert cache.read_bytes() != whole
    assert tokenised(context, data) == cache
    assert cache.read_bytes() == whole


def test_a_dataset_that_is_damaged_is_taken_from_its_stage_again(context: StageContext, data: Path) -> None:
    load_examples(context, data)
    vouch_for_examples(context)
    (own,) = (context.stage_dir / EXAMPLES).glob("data-*.arrow")
    own.write_bytes(b"")
    assert load_examples(context, data)["text"] == ["some words", "more words"]


def test_a_dataset_that_is_not_there_is_named(context: StageContext, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path / 'nowhere'}: the data stage's output cannot be copied"):
        load_examples(context, tmp_path / "nowhere")
