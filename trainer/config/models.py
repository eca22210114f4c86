"""Where a model is that a config names: with this package, in another, in a GGUF, in a directory, or on a hub."""

from __future__ import annotations

from pathlib import Path

from trainer.config.gguf import SUFFIX, Gguf
from trainer.config.hub import cached
from trainer.config.packaged import PACKAGED
from trainer.config.paths import adapter_problem, looks_local, missing_path
from trainer.config.shipped import SHIPPED
from trainer.errors import ConfigError

_SECONDS = 5.0  # for the hub to answer


def model_place(name: str, base_dir: Path = Path()) -> str:
    """A model, or a tokenizer, as transformers takes it: its directory on this machine, or its name on the hub. What is in a
    GGUF or a package is made into such a directory first.

    Raises:
        ConfigError: a GGUF cannot be.
    """
    directory = model_directory(name, base_dir)
    if directory is not None:
        return str(directory)
    return PACKAGED[name].hub if name in PACKAGED else name


def model_directory(name: str, base_dir: Path = Path()) -> Path | None:
    """As `model_place`; None for what is on the hub."""
    if name in SHIPPED:
        return SHIPPED[name]
    if name in PACKAGED:
        gguf = PACKAGED[name].gguf(name)
        return None if gguf is None else gguf.converted()
    if on_hub(name):
        return None
    path = base_dir / Path(name).expanduser()
    return Gguf(path.stem, (path,)).converted() if path.suffix.lower() == SUFFIX and path.is_file() else path


def directory_here(name: str, base_dir: Path = Path(), revision: str | None = None) -> Path | None:
    """The directory of a model that is on this machine, in the cache of the hub too; None where it is not."""
    directory = cached(name, revision=revision) if on_hub(name) else model_directory(name, base_dir)
    return directory if directory is not None and directory.is_dir() else None


def on_hub(name: str) -> bool:
    """Whether it names a model of the hub."""
    return name not in SHIPPED and name not in PACKAGED and not looks_local(name)


def model_problems(key: str, name: str, base_dir: Path, revision: str | None = None) -> list[str]:
    """What is wrong with a key that names a model; of one on the hub that is not in its cache nothing is known."""
    problems = place_problems(key, name, base_dir)
    if not problems and (directory := directory_here(name, base_dir, revision)) is not None:
        problems += adapter_problem(key, name, directory)
    return problems


def place_problems(key: str, name: str, base_dir: Path) -> list[str]:
    """As `model_problems`, where a tokenizer alone is enough."""
    if name in SHIPPED:
        return []
    try:
        place = model_place(name, base_dir)
    except ConfigError as error:
        return [f"{key}: {problem}" for problem in error.problems]
    if name not in PACKAGED:
        return missing_path(key, name, base_dir)
    if Path(place).is_dir() or _answers(place):
        return []
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
