"""CoSAlign-Test as evaluation items: what a row becomes, and what each kind of bad row says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trainer.cosa.taxonomy import COSA, DRUGS, FINANCIAL, PRIVACY, VIOLENCE, WEAPONS
from trainer.errors import DataError
from trainer.evaluation.suites.cosalign_test import cosalign_test_items
from trainer.items import Item


def row(**changes: Any) -> dict[str, Any]:
    good = {"prompt": "p", "config_categories": "-Violence-", "prompt_categories": "--", "situation": "allowed"}
    return good | changes


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows))
    return path


def bullets(system: str) -> list[str]:
    return [name for name in COSA.names if f"- {name}: {COSA.definitions[name]}" in system]


def test_a_row_becomes_an_item(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", row(prompt="how?", config_categories=f"-{PRIVACY}-{FINANCIAL}-", situation="partial"))
    (item,) = cosalign_test_items(path, None, seed=0)
    assert item.id == "Financial Crime and Theft + Privacy Violations/0000"
    assert (item.suite, item.split, item.prompt, item.situation) == ("cosa", "seen", "how?", "partial")
    assert item.safety_config == "Financial Crime and Theft + Privacy Violations"
    assert item.allowed == {FINANCIAL, PRIVACY}
    assert bullets(item.system) == [FINANCIAL, PRIVACY]
    assert item.attainable is None and item.reference is None and item.demonstrations == ()


def test_the_empty_config_is_seen_and_says_none(tmp_path: Path) -> None:
    (item,) = cosalign_test_items(write(tmp_path / "a.jsonl", row(config_categories="--", situation="safe")), None, 0)
    assert (item.id, item.split, item.allowed) == ("none/0000", "seen", frozenset())
    assert bullets(item.system) == [] and "None." in item.system


@pytest.mark.parametrize(
    ("label", "split"), [(f"-{VIOLENCE}-", "seen"), (f"-{DRUGS}-", "unseen"), (f"-{VIOLENCE}-{WEAPONS}-", "unseen")]
)
def test_one_category_outside_training_makes_a_config_unseen(tmp_path: Path, label: str, split: str) -> None:
    (item,) = cosalign_test_items(write(tmp_path / "a.jsonl", row(config_categories=label)), None, 0)
    assert item.split == split


def test_a_directory_is_read_in_name_order_and_counted_through(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", row(prompt="3"), row(prompt="4", config_categories="--"))
    write(tmp_path / "a.jsonl", row(prompt="1"), "", row(prompt="2\u2028still 2", config_categories="--"))
    (tmp_path / "README.md").write_text("not data")
    items = cosalign_test_items(tmp_path, None, 0)
    assert [(i.id, i.prompt) for i in items] == [
        ("Violence/0000", "1"),
        ("Violence/0001", "3"),
        ("none/0000", "2\u2028still 2"),
        ("none/0001", "4"),
    ]


def test_prompts_per_config_draws_from_all_of_each_and_changes_nothing_else(tmp_path: Path) -> None:
    """The published file is sorted by situation: its first rows would be one situation only."""
    rows = [row(prompt=str(i), config_categories=("--", f"-{VIOLENCE}-")[i % 2]) for i in range(200)]
    path = write(tmp_path / "a.jsonl", *rows)
    kept, everything = cosalign_test_items(path, 20, seed=5), cosalign_test_items(path, None, seed=5)
    assert [sum(i.safety_config == name for i in kept) for name in ("none", VIOLENCE)] == [20, 20]
    assert all(item in everything for item in kept)
    assert sum(int(item.prompt) >= 100 for item in kept) > 10
    assert kept == cosalign_test_items(path, 20, seed=5)


def test_the_seed_draws_the_wording_of_the_configs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *[row(config_categories=f"-{FINANCIAL}-{VIOLENCE}-")] * 20)
    first, again, other = (cosalign_test_items(path, None, seed) for seed in (1, 1, 2))
    assert first == again
    assert [i.system for i in first] != [i.system for i in other]
    assert len({i.system for i in first}) > 5  # rows differ too


HUB = {  # file or split -> the config that it is called after
    "Financial_Crime_and_Theft.Privacy_Violations": {FINANCIAL, PRIVACY},
    "Illegal_Drug.Related_Activities_and_Substance_Abuse": {DRUGS},
    "Violence.Weapons_Explosives_Arson_and_Illegal_Firearm_Transactions": {VIOLENCE, WEAPONS},
    "safe": set(),
}
SITUATIONS = {"situation 1": "allowed", "situation 2": "partial", "situation 3": "disallowed"}


def hub_rows(split: str) -> list[dict[str, Any]]:
    return [{"prompt": f"{split} {number}", "mode": "m", "situation": number} for number in SITUATIONS]


def check_hub(items: list[Item]) -> None:
    assert len(items) == len(HUB) * len(SITUATIONS)
    for item in items:
        split, number = item.prompt.split(" ", 1)
        assert item.allowed == HUB[split] and item.split == ("unseen" if HUB[split] & {DRUGS, WEAPONS} else "seen")
        assert item.situation == ("safe" if split == "safe" and number == "situation 1" else SITUATIONS[number])


@pytest.mark.parametrize("name", ["data/{}-00000-of-00001.parquet", "{}.jsonl", "unseen/{}.json"])
def test_the_layout_of_the_hub_is_read_from_a_directory(name: str, tmp_path: Path) -> None:
    for split in HUB:
        path = tmp_path / name.format(split)
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(hub_rows(split)), path)
        else:
            write(path, *hub_rows(split))
    check_hub(cosalign_test_items(tmp_path, None))
    assert {i.allowed for i in cosalign_test_items(path, None)} == {frozenset()}  # one file of it is one config
    write(tmp_path / "safe.jsonl", {"prompt": "p", "situation": "situation 4"})
    with pytest.raises(DataError, match=r"situation: unknown 'situation 4'; it must be situation 1, 2 or 3"):
        cosalign_test_items(tmp_path / "safe.jsonl", None)


def test_the_layout_of_the_hub_is_read_from_the_hub_and_from_save_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    subsets = {"seen": [name for name, allowed in HUB.items() if not allowed & {DRUGS, WEAPONS}]}
    subsets["unseen"] = [name for name in HUB if name not in subsets["seen"]]

    def load_dataset(name: str, subset: str) -> datasets.DatasetDict:
        assert name == "microsoft/CoSAlign-Test"
        return datasets.DatasetDict({split: datasets.Dataset.from_list(hub_rows(split)) for split in subsets[subset]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: list(subsets))
    check_hub(cosalign_test_items("microsoft/CoSAlign-Test", None))
    everything = {split: datasets.Dataset.from_list(hub_rows(split)) for split in HUB}
    datasets.DatasetDict(everything).save_to_disk(tmp_path)
    check_hub(cosalign_test_items(tmp_path, None))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{not json", ["is not JSON", "one JSON object per line"]),
        ("[1]", ["is a JSON list", "one JSON object per line"]),
        (
            {"prompt": "p", "mode": "x"},
            ["prompt_categories, situation missing", "the row has prompt, mode. Rename"],
        ),
        (row(prompt=3), ["prompt must be text, is int"]),
        (row(prompt_categories=None), ["prompt_categories must be text, is NoneType"]),
        (row(situation="partly"), ["unknown 'partly'", "did you mean partial?"]),
        (row(situation=1), ["unknown 1", "known: allowed, disallowed, partial, safe"]),
        (row(config_categories="-Violense-"), ["config_categories: unknown risk category", "did you mean Violence?"]),
        (row(prompt_categories="-Tax-"), ["prompt_categories: unknown risk category in label '-Tax-'"]),
        (row(config_categories="-Other Harms-"), ["no config can allow Other Harms"]),
    ],
)
def test_a_bad_row_is_named_with_what_to_do(tmp_path: Path, bad: dict[str, Any] | str, says: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", row(), bad)
    with pytest.raises(DataError) as caught:
        cosalign_test_items(path, 1, 0)  # the limit does not hide it
    assert str(caught.value).startswith(f"{path}: row 2: ")
    assert [text for text in says if text not in str(caught.value)] == []


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl: does not exist"):
        cosalign_test_items(tmp_path / "absent.jsonl", None, 0)
    with pytest.raises(DataError, match=r"no data file here"):
        cosalign_test_items(tmp_path, None, 0)
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(DataError, match=r"b\.jsonl: cannot be read: .*UTF-8"):
        cosalign_test_items(tmp_path, None, 0)
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"a\.jsonl: has no rows"):
        cosalign_test_items(tmp_path, None, 0)


@pytest.mark.real_data
def test_the_published_prompts(public_data: Path) -> None:
    items = cosalign_test_items(public_data / "cosalign_test", None, seed=0)
    assert len(items) == 2000
    assert Counter(i.safety_config for i in items) == {
        "none": 400,
        "Violence": 400,
        "Financial Crime and Theft + Privacy Violations": 400,
        "Discrimination and Verbal Abuse + Violence": 400,
        "Financial Crime and Theft + Discrimination and Verbal Abuse + Violence": 400,
    }
    assert {i.split for i in items} == {"seen"}
    assert len({i.id for i in items}) == 2000
    assert Counter(i.situation for i in items) == {"safe": 100, "allowed": 660, "partial": 347, "disallowed": 893}
    assert all(bullets(i.system) == [n for n in COSA.names if n in i.allowed] for i in items)
