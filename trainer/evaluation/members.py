"""Suites among several: the name of each stands in its items, so that no metric of one is taken for another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.items import Item


def of_member(name: str, items: Sequence[Item]) -> list[Item]:
    """The items of a suite that stands under this name among several; an empty name leaves them as they are.

    Its sets are called `<name>/<set>`, or just `<name>` where it is one set without a name, or of that name; its safety configs
    `<name>/<config>`.
    """
    if not name:
        return list(items)
    return [
        replace(
            item,
            id=f"{name}/{item.id}",
            split=name if item.split in ("", name) else f"{name}/{item.split}",
            safety_config=item.safety_config and f"{name}/{item.safety_config}",
        )
        for item in items
    ]
