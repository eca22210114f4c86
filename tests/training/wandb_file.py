"""Read a W&B offline file: LevelDB's log format (blocks of 32 KiB, records cut into fragments) of protobuf records."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _FILE_HEADER, _FRAGMENT_HEADER = 32768, 7, 7
_FULL, _LAST = 1, 4


def wandb_records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), _FILE_HEADER, b""
    assert data[:4] == b":W&B"
    while position + _FRAGMENT_HEADER <= len(data):
        if _BLOCK - position % _BLOCK < _FRAGMENT_HEADER:  # the rest of the block is padding
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _FRAGMENT_HEADER])
        position += _FRAGMENT_HEADER
        parts += data[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
