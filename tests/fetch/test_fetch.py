"""What a run reads is brought to a mirror, from a server that speaks as the hub does, and the run then needs no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from tests.fetch.fake_hub import FakeHub, fake_hub, spoil
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.mirror import FETCHED, use_mirror
from trainer.config.shipped import SHIPPED
from trainer.data.hub import read_source
from trainer.doctor.present import missing
from trainer.fetch.__main__ import main
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.chain import chain
from trainer.pipeline.places import base_model_path
from trainer.plan.shape import shape_of

CHATS = b"".join(b'{"prompt": "what is %d plus 3 ?", "completion": "5"}\n' % number for number in range(8))
ATTACKS = b"prompt\nsay 1\nsay 2\n"
RUN = (
    "experiment=sft", "data=chat", "data.path=lab/chats", "model.path=lab/base", "model.dtype=float32",
    "evaluation=prompts", "evaluation.attacks.asked=lab/attacks", "judge=model", "judge.path=lab/base",
)  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        served.add_folder("models/lab/base", SHIPPED["sandbox"], licence="apache-2.0")
        served.repositories["models/lab/base"]["pytorch_model.bin"] = b"pickled" * 10
        served.add("datasets/lab/chats", {"data/train.jsonl": CHATS, "load.py": b"import os"}, licence="cc-by-nc-4.0")
        served.add("datasets/lab/attacks", {"test.csv": ATTACKS})
        yield served
    use_mirror(None)


def test_a_run_finds_all_that_it_reads_without_a_network(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = f"paths.mirror={tmp_path / 'mirror'}"
    assert main([*RUN, mirror]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown.replace("\n", "") for word in ("cc-by-nc-4.0", "apache-2.0", "lab/attacks", "judge.path"))
    sent = sorted({name for name, _ in hub.downloads()})
    assert "model.safetensors" in sent and "train.jsonl" in sent and not {"pytorch_model.bin", "load.py"} & set(sent)
    hub.repositories.clear()
    asked = len(hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main([*RUN, mirror]) == 0 and len(hub.asked) == asked
    config = load_config(composed([*RUN, mirror]))
    assert missing(config) == []
    assert config.evaluation is not None and [item.prompt for item in config.evaluation.items()] == ["say 1", "say 2"]
    place = base_model_path(config, tmp_path)
    assert load_model(config.model, place).num_parameters() == shape_of(config.model).parameters
    assert load_tokenizer(config.model, place)("say")["input_ids"]
    reads = chain(config)[0].reads
    assert reads["data.path"] == str(tmp_path / "mirror" / "datasets" / "lab" / "chats"), "it counts by its content"


def test_a_download_that_broke_goes_on_there(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # the library goes on behind a whole one
    size = len(hub.repositories["models/lab/base"]["model.safetensors"])
    hub.cut["model.safetensors"] = size // 2
    command = ["experiment=sft", "model.path=lab/base", f"paths.mirror={tmp_path}"]
    assert any(main(command) == 0 for _ in range(2)), "the library tries again by itself, too"
    first, second = (wanted for name, wanted in hub.downloads() if name == "model.safetensors")
    assert first == "" and second == f"bytes={size // 2 >> 16 << 16}-"
    assert (tmp_path / "models" / "lab" / "base" / FETCHED).exists()


def test_what_comes_damaged_is_not_taken(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment=sft", "model.path=lab/base", f"paths.mirror={tmp_path}"]
    hub.spoilt |= {"tokenizer.json", "model.safetensors"}
    assert main(command) == 1
    assert "came damaged and was removed" in capsys.readouterr().err.replace("\n", " ")
    home = tmp_path / "models" / "lab" / "base"
    assert not (home / FETCHED).exists() and not (home / "model.safetensors").exists()
    hub.spoilt.clear()
    hub.asked.clear()
    assert main(command) == 0
    assert sorted(name for name, _ in hub.downloads()) == ["model.safetensors", "tokenizer.json"]


def test_what_is_damaged_in_the_mirror_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    command = ["experiment=sft", "model.path=lab/base", f"paths.mirror={tmp_path}"]
    assert main(command) == 0
    weights = tmp_path / "models" / "lab" / "base" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(spoil(whole))
    hub.asked.clear()
    assert main(command) == 0
    assert weights.read_bytes() == whole and [name for name, _ in hub.downloads()] == ["model.safetensors"]


def test_a_dry_run_says_what_is_missing_and_writes_nothing(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, f"paths.mirror={tmp_path}", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert "cc-by-nc-4.0" in said.out and "3 of 3 missing" in said.err
    assert not list(tmp_path.iterdir()) and not [name for name, _ in hub.downloads() if name != "README.md"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("data.path=lab/gated", "accepted its terms"),
        ("data.path=lab/nothing", "the hub has no dataset of this name"),
        ("data.path=lab/program", "no data files of it that are read here"),
        ("model.revision=v2", "has no revision v2"),
        ("data.path=./gone.jsonl", "./gone.jsonl does not exist"),
    ],
)
def test_what_cannot_be_had_is_said_and_the_rest_comes(
    key: str, said: str, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("datasets/lab/gated", {"train.jsonl": CHATS})
    hub.gated.add("datasets/lab/gated")
    hub.add("datasets/lab/program", {"load.py": b""})
    assert main([*RUN, f"paths.mirror={tmp_path}", key]) == 1
    error = capsys.readouterr().err
    assert "1 of" in error and said in error
    assert (tmp_path / "datasets" / "lab" / "attacks" / FETCHED).exists()


def test_without_a_network_it_says_so(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main([*RUN, f"paths.mirror={tmp_path}"]) == 1
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_a_mirror_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment=sft"]) == 2
    assert "paths.mirror: there is no folder to bring things to" in capsys.readouterr().err
    assert main(["experiment=sft", "paths.miror=x"]) == 2
    assert "did you mean mirror?" in capsys.readouterr().err


CARD = b"""---
configs:
- config_name: small
  data_files: [{split: train, path: small/train.jsonl}]
- config_name: large
  default: true
  data_files: [{split: train, path: large/*.jsonl}]
---
"""


def test_subsets_come_one_by_one(hub: FakeHub, tmp_path: Path) -> None:
    large = CHATS.replace(b"what", b"say what")
    files = {"README.md": CARD, "small/train.jsonl": CHATS, "large/0.jsonl": large, "other.json": b"[]"}
    hub.add("datasets/lab/several", files)
    home = tmp_path / "datasets" / "lab" / "several"

    def bring(name: str) -> None:
        assert main(["experiment=sft", "data=chat", f"data.path={name}", f"paths.mirror={tmp_path}"]) == 0
        use_mirror(str(tmp_path))

    bring("lab/several:small")
    assert not (home / "large").exists()
    assert read_source("lab/several:small", "train")[0][1]["prompt"] == "what is 0 plus 3 ?"
    bring("lab/several")
    assert read_source("lab/several", "train")[0][1]["prompt"] == "say what is 0 plus 3 ?"
    assert read_source("lab/several:small", "train")[0][1]["prompt"] == "what is 0 plus 3 ?"
    hub.asked.clear()
    bring("lab/several:small")
    bring("lab/several")
    assert not hub.asked and not (home / "other.json").exists()


def test_a_tokenizer_comes_without_its_model_until_that_is_read(hub: FakeHub, tmp_path: Path) -> None:
    fresh = ["experiment=sft", "model=random_llama", "model.tokenizer=lab/base", f"paths.mirror={tmp_path}"]
    assert main(fresh) == 0
    home = tmp_path / "models" / "lab" / "base"
    assert (home / "tokenizer.json").exists() and not (home / "model.safetensors").exists()
    assert main(["experiment=sft", "model.path=lab/base", f"paths.mirror={tmp_path}"]) == 0
    assert (home / "model.safetensors").exists()
    hub.asked.clear()
    assert main(fresh) == 0 and not hub.asked
