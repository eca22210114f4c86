"""Where W&B's server is, whether it answers, and whether this user has a key for it."""

from __future__ import annotations

import netrc
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

_SECONDS = 5.0


def server_url() -> str:
    """The server that wandb itself would talk to: WANDB_BASE_URL, what `wandb login --host` stored, or the public one."""
    from wandb.sdk import wandb_setup

    return str(wandb_setup.singleton().settings.base_url)


def why_unreachable(url: str) -> str | None:
    """None when the server answers, whatever it answers; otherwise why it does not. Proxies of the environment count."""
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return None
    except urllib.error.HTTPError as error:  # an answer; but a gateway's error is not the server's
        return f"HTTP {error.code} {error.reason}" if error.code == 407 or error.code >= 500 else None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def has_key(url: str) -> bool:
    """Whether a key for this server stands in the environment or in the netrc file, where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(urlsplit(url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False
