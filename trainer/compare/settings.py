"""Which runs are one experiment over several seeds, and in which settings the experiments differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.compare.comparison import Setting
from trainer.record import fingerprint_of
from trainer.results.source import Source

ALIKE = ("seed", "run", "paths", "launcher", "tracking", "survival")  # in which runs of one setting may differ
_LONGEST = 40  # characters of a setting's name, beyond which it is named after its run


def keys_of_runs(sources: Sequence[Source]) -> list[str]:
    """The shortest name of each that no other has: its run's name, or where two have the same, where it is."""
    names = [source.name for source in sources]
    return [source.name if names.count(source.name) == 1 else source.where for source in sources]


def settings_of(sources: Sequence[Source], keys: Sequence[str]) -> list[Setting]:
    """The settings, in the order of the runs. Runs with the same config and the same seed are told apart by their commit, or
    else stand on their own: measuring twice is no second seed."""
    groups = _grouped(list(range(len(sources))), lambda i: fingerprint_of(_setting(sources[i])), sources)
    differing = _differing([_flat(_setting(sources[group[0]])) for group in groups])
    names = _names(groups, sources, keys, differing)
    return [
        Setting(name, sources[group[0]].method, [keys[i] for i in group], values)
        for name, group, values in zip(names, groups, differing, strict=True)
    ]


def _grouped(places: Sequence[int], key: Any, sources: Sequence[Source]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(key(place), []).append(place)
    found = []
    for group in groups.values():
        if len({sources[i].seed for i in group}) == len(group):
            found.append(group)
            continue
        by_commit: dict[str, list[int]] = {}
        for i in group:
            by_commit.setdefault(str(sources[i].provenance.get("git_commit")), []).append(i)
        for same in by_commit.values():
            found += [same] if len({sources[i].seed for i in same}) == len(same) else [[i] for i in same]
    return sorted(found)


def _setting(source: Source) -> dict[str, Any]:
    return {key: value for key, value in source.config.items() if key not in ALIKE}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _text(value)
    return found


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _differing(settings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    keys = dict.fromkeys(key for values in settings for key in values)
    unlike = [key for key in keys if len({values.get(key, "-") for values in settings}) > 1]
    return [{key: values.get(key, "-") for key in unlike} for values in settings]


def _names(
    groups: Sequence[Sequence[int]], sources: Sequence[Source], keys: Sequence[str], differing: Sequence[Mapping[str, str]]
) -> list[str]:
    """The method's name, with what else differs among the settings of this method where there are several."""
    methods = [sources[group[0]].method for group in groups]
    names = []
    for place, group in enumerate(groups):
        same = [other for other, method in enumerate(methods) if method == methods[place]]
        unlike = [key for key in differing[place] if len({differing[other][key] for other in same}) > 1]
        text = ",".join(f"{key}={differing[place][key]}" for key in unlike)
        short = text if len(text) <= _LONGEST else ""
        if len(same) == 1:
            names.append(methods[place])
        else:
            names.append(f"{methods[place]}[{short or keys[group[0]]}]")
    return [name if names.count(name) == 1 else f"{name}[{keys[group[0]]}]" for name, group in zip(names, groups, strict=True)]
