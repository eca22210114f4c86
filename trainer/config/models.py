"""Where a model is that a config names: in this package or another, in a GGUF, in a directory, in the mirror, or on a hub."""

from __future__ import annotations

from pathlib import Path

from trainer.config.gguf import SUFFIX, Gguf
from trainer.config.hub import cached
from trainer.config.mirror import INDEX, mirrored
from trainer.config.packaged import PACKAGED
from trainer.config.paths import adapter_problem, looks_local, missing_path
from trainer.config.shipped import SHIPPED
from trainer.errors import ConfigError

_SECONDS = 5.0  # for the hub to answer


def model_place(name: str, base_dir: Path = Path(), revision: str | None = None) -> str:
    """A model, or a tokenizer, as transformers takes it: its directory on this machine, or its name on the hub. What is in a
    GGUF or a package is made into such a directory first.

    Raises:
        ConfigError: a GGUF cannot be.
    """
    directory = model_directory(name, base_dir, revision)
    if directory is not None:
        return str(directory)
    return PACKAGED[name].hub if name in PACKAGED else name


def model_directory(name: str, base_dir: Path = Path(), revision: str | None = None) -> Path | None:
    """As `model_place`; None for what is on the hub alone."""
    if name in SHIPPED:
        return SHIPPED[name]
    if name in PACKAGED:
        if (gguf := PACKAGED[name].gguf(name)) is not None:
            return gguf.converted()
        name = PACKAGED[name].hub
    if not on_hub(name):
        path = base_dir / Path(name).expanduser()
    elif (copy := mirrored("models", name, revision)) is not None:
        path = copy.path
    else:
        return None
    return Gguf(path.stem, (path,)).converted() if path.suffix.lower() == SUFFIX and path.is_file() else path


def directory_here(name: str, base_dir: Path = Path(), revision: str | None = None) -> Path | None:
    """As `model_directory`, and what is in this machine's cache of the hub; None where neither is there."""
    directory = model_directory(name, base_dir, revision)
    if directory is None:
        directory = cached(PACKAGED[name].hub if name in PACKAGED else name, revision=revision)
    return directory if directory is not None and directory.is_dir() else None


def on_hub(name: str) -> bool:
    """Whether it names a model of the hub."""
    return name not in SHIPPED and name not in PACKAGED and not looks_local(name)


def model_problems(key: str, name: str, base_dir: Path, revision: str | None = None) -> list[str]:
    """What is wrong with a key that names a model; of one on the hub that is not in its cache nothing is known."""
    problems = place_problems(key, name, base_dir)
    if not problems and (directory := directory_here(name, base_dir, revision)) is not None:
        problems = adapter_problem(key, name, directory)
    if problems:
        return problems
    copy = mirrored("models", name, revision) if on_hub(name) else None
    if copy is None or copy.path.is_file() or any(copy.path.glob("*.safetensors")):
        return []
    return [f"{key}: the copy of {name} in the mirror, {copy.path}, holds no weights; python -m trainer.fetch brings them."]


def place_problems(key: str, name: str, base_dir: Path) -> list[str]:
    """As `model_problems`, where a tokenizer alone is enough."""
    if name in SHIPPED:
        return []
    try:
        place = model_place(name, base_dir)
    except ConfigError as error:
        return [f"{key}: {problem}" for problem in error.problems]
    if Path(place).is_dir() or (name in PACKAGED and _answers(place)):
        return []
    if on_hub(name):
        return [] if place == name else [f"{key}: {name} is {place} in the mirror, and that does not exist; mend its {INDEX}."]
    if name not in PACKAGED:
        return missing_path(key, name, base_dir)
    return [f"{key}: {name} is not on this machine; {PACKAGED[name].how}, or have the hub's {place} in this machine's cache."]


def _answers(name: str) -> bool:
    """Whether it is in the cache of this machine, or the hub answers for it."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    try:
        return bool(HfApi().model_info(name, timeout=_SECONDS).sha)
    except Exception:  # no network (an error of some HTTP library), offline mode, a gated model without a token
        return False
