"""``fedshard new``: an app of the same shape as the scenarios, ready to edit."""

import argparse
import re
import shlex
from importlib.resources import files
from pathlib import Path

from shards.errors import InputError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def run(arguments: argparse.Namespace) -> int:
    """Write the app's folder; an existing one is left alone."""
    folder = Path(arguments.name)
    if not _NAME.fullmatch(folder.name):
        raise InputError(f"{folder.name}: not a name for an app: use letters, digits, '-' and '_', a letter first")
    package = folder.name.replace("-", "_").lower()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder}: exists already; choose another name") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
    templates = files("fl") / "templates"
    for template in sorted((t for t in templates.iterdir() if t.name.endswith(".tmpl")), key=lambda path: path.name):
        text = template.read_text(encoding="utf-8")
        target = folder / template.name.removesuffix(".tmpl").replace("PACKAGE", package)
        target.write_text(text.replace("@NAME@", folder.name).replace("@PACKAGE@", package), encoding="utf-8")
    task = folder / f"{package}_task.py"
    print(f"made {folder}: edit {task}, then run it with: fedshard run {shlex.quote(str(folder))}")
    return 0
