"""Mixtures: the proportions of an epoch, and which rows it has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.config.test_data_is_read import problems
from tests.files import write
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.data.formats.mixture import MixtureData
from trainer.data.mixing import epoch_counts, mixed
from trainer.errors import DataError


@pytest.mark.parametrize(
    ("sizes", "weights", "strategy", "limit", "counts"),
    [
        ((100, 1000), (1, 3), "first_exhausted", None, (100, 300)),
        ((100, 1000), (1, 3), "all_exhausted", None, (334, 1000)),
        ((1000, 100), (1, 3), "first_exhausted", None, (33, 100)),
        ((100, 1000), (0.1, 0.2), "first_exhausted", None, (100, 200)),
        ((100, 1000), (1, 3), "first_exhausted", 40, (10, 30)),
        ((5, 5, 5), (1, 1, 1), "all_exhausted", None, (5, 5, 5)),
        ((5, 5, 5), (1, 1, 1), "first_exhausted", 10, (4, 3, 3)),
        ((7, 1), (0.7, 0.1), "first_exhausted", None, (7, 1)),
    ],
)
def test_weights_are_proportions_of_an_epoch(
    sizes: tuple[int, ...], weights: tuple[float, ...], strategy: str, limit: int | None, counts: tuple[int, ...]
) -> None:
    names = [f"part{number}" for number in range(len(sizes))]
    found = epoch_counts(
        dict(zip(names, sizes, strict=True)),
        dict(zip(names, weights, strict=True)),
        strategy,
        limit,  # type: ignore[arg-type]
    )
    assert tuple(found.values()) == counts


def test_no_example_comes_again_before_each_has_come_once() -> None:
    parts = {"few": list("abc"), "many": [str(n) for n in range(20)]}
    epoch = mixed(parts, {"few": 8, "many": 5}, seed=0)
    counted = Counter(epoch)
    assert len(epoch) == 13 and {counted[x] for x in "abc"} == {2, 3}
    assert max(counted[x] for x in parts["many"]) == 1
    assert epoch == mixed(parts, {"few": 8, "many": 5}, seed=0) != mixed(parts, {"few": 8, "many": 5}, seed=1)
    assert set(epoch[:8]) != set("abc"), "a part after another"


# --------------------------------------------------------------------------------------------------------------- configs
def of_two(tmp_path: Path, pairs: int = 4, chats: int = 12) -> list[str]:
    one = write(tmp_path / "a.jsonl", *({"prompt": f"p{n}", "chosen": "yes", "rejected": "no"} for n in range(pairs)))
    two = write(tmp_path / "b.jsonl", *({"instruction": f"i{n}", "output": "so"} for n in range(chats)))
    return [
        "experiment=sft", "evaluation=none", "data=mixture", "data.parts.safety.data.format=preference",
        f"data.parts.safety.data.path={one}", "data.parts.chat.data.format=chat", f"data.parts.chat.data.path={two}",
        "data.parts.chat.weight=2",
    ]  # fmt: skip


def test_rows_are_read_by_the_format_of_their_part_and_mixed_by_weight(tmp_path: Path) -> None:
    data = load_config(composed(of_two(tmp_path))).data
    assert isinstance(data, MixtureData)
    found = data.read(seed=0)
    assert Counter(pair.part for pair in found.pairs) == {"safety": 4, "chat": 12} and found.rows == 16
    by_part = {part: [pair for pair in found.pairs if pair.part == part] for part in data.shares}
    assert Counter(pair.part for pair in data.epoch(by_part, 0)) == {"safety": 4, "chat": 8}
    assert data.told({"safety": 4, "chat": 12})["chat"] == {"share": 2 / 3, "has": 12, "in_an_epoch": 8}
    with pytest.raises(DataError, match=r"data\.parts\.chat: no example of it is left"):
        data.epoch({"safety": [1], "chat": []}, 0)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.parts.chat.weight=0", "data.parts.chat.weight: Input should be greater than 0"),
        ("data.parts.chat.data.path=none.jsonl", "data.parts.chat.data.path: none.jsonl does not exist"),
        (
            "data.parts.chat.data.overlong=drop",
            "data.parts.chat.data.overlong: is one for the whole mixture; set data.overlong",
        ),
        ("data.parts.chat.data.validation=0.5", "data.parts.chat.data.validation: is one for the whole mixture"),
        ("data.parts.chat.data.format=mixture", "data.parts.chat.data.format: unknown 'mixture'"),
        ("data.parts.chat.data.format=toxigen", "data.parts.chat.data.format: unknown 'toxigen'"),
        ("data.parts.chat.wieght=2", "data.parts.chat.wieght: unknown key; did you mean weight?"),
        ("data.validation=held.jsonl", "data.validation: mixture names no file"),
        ("method=dpo", "data.format: method=dpo cannot train on mixture"),
        ("~data.parts.chat", "data.parts: name at least two"),
    ],
)
def test_every_part_is_checked_before_a_process_starts(tmp_path: Path, override: str, problem: str) -> None:
    overrides = of_two(tmp_path)
    if override.startswith("~"):
        overrides = [one for one in overrides if not one.startswith(override[1:])]
    else:
        overrides = [one for one in overrides if one.partition("=")[0] != override.partition("=")[0]] + [override]
    if "format" in override:
        overrides = [one for one in overrides if not one.startswith("data.parts.chat.data.path")]
    found = problems(*overrides)
    assert any(line.startswith(problem) for line in found), found


def test_a_damaged_row_of_a_part_is_named(tmp_path: Path) -> None:
    overrides = of_two(tmp_path)
    (tmp_path / "b.jsonl").write_text("no JSON\n")
    assert any(line.startswith("data.parts.chat.data.path: ") and "row 1" in line for line in problems(*overrides))


def test_a_stage_depends_on_the_content_of_every_part(tmp_path: Path) -> None:
    from trainer.pipeline.chain import chain
    from trainer.pipeline.work import inputs_of

    config = load_config(composed(of_two(tmp_path)))
    data = next(stage for stage in chain(config) if stage.name == "data")
    before = inputs_of(data, {})
    assert {key for key in before if key.startswith("data.")} == {"data.parts.safety.data.path", "data.parts.chat.data.path"}
    write(tmp_path / "b.jsonl", {"instruction": "i", "output": "other"})
    after = inputs_of(data, {})
    assert [key for key in before if before[key] != after[key]] == ["data.parts.chat.data.path"]
