"""`report.html`: a comparison as one file that needs nothing else, from `file://` too. The page is in `page/`: a template, a
style sheet and scripts; this puts them and the data into one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from trainer.compare.comparison import Comparison
from trainer.compare.page_data import overview, responses

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("dom.js", "tables.js", "plots.js", "browser.js", "main.js")
_COMPRESSED = 1 << 20  # characters of JSON from which on it is compressed
_LEVEL = 5  # of gzip: what 6 saves in bytes it takes twice in time


def write_html(comparison: Comparison, path: Path) -> None:
    """Write the page, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    scripts = [(PAGE / name).read_text() for name in SCRIPTS]
    text = _template().render(
        title=comparison.title,
        style=Markup((PAGE / "style.css").read_text()),
        scripts=[Markup(script) for script in scripts],
        hashes=Markup(" ".join(_hash(script) for script in scripts)),
        data={"overview": _embedded(overview(comparison)), "responses": _embedded(responses(comparison))},
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((PAGE / "report.html.j2").read_text())


def _hash(script: str) -> str:
    """What the page's Content-Security-Policy calls a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _embedded(value: Any) -> tuple[str, Markup]:
    """The type and the content of a script element that carries this; compressed where it is large.

    Every `<` is written as an escape, so that no text ends the element or begins a comment in it, and so is all that is not
    ASCII: line separators, and halves of characters that UTF-8 cannot hold.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if len(text) < _COMPRESSED:
        return "application/json", Markup(text.replace("<", "\\u003c"))
    packed = gzip.compress(text.encode("ascii"), _LEVEL, mtime=0)
    return "application/gzip", Markup(base64.b64encode(packed).decode("ascii"))
