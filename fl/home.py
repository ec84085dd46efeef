"""Where fedshard keeps what outlives a run on a real machine."""

import os
from pathlib import Path


def home() -> Path:
    """Return ``$FEDSHARD_HOME``, or ``.fedshard`` in the user's home folder."""
    return Path(os.environ.get("FEDSHARD_HOME") or Path.home() / ".fedshard")
