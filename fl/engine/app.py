"""Finding a Flower app: its folder, components and configuration, with one clear line where something is wrong."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flwr.app import UserConfig

from fl.engine import flower
from shards.errors import InputError
from shards.nearest import suggest

DEFAULT_CLIENTS = 10
PRIVATE_KEY, SEED_KEY = "fedshard-private", "fedshard-seed"
"""Node configuration that a simulated run adds, the ServerApp's own included: its private folder, and the seed that
simulated secrets derive from. A node of a real deployment has neither."""

_APP_FILE = "pyproject.toml"


@runtime_checkable
class Checked(Protocol):
    """A ServerApp that can check everything a run needs before the run exists."""

    def preflight(self, run_config: UserConfig, clients: int, where: str) -> None:
        """Raise `InputError`, its one line starting with `where`, for the first thing that is wrong."""

    def describe(self, run_config: UserConfig) -> list[str]:
        """Return the lines that a run prints before its first round."""


@dataclass(frozen=True)
class AppSpec:
    """A Flower app as its ``pyproject.toml`` describes it.

    Attributes
    ----------
    folder : Path
        Where the app is.
    name : str
        ``project.name``.
    server_reference, client_reference : str
        ``module:attribute`` of the two components.
    config : dict
        ``tool.flwr.app.config``, flattened with dots as Flower does.
    clients : int
        ``tool.fedshard.clients``, or `DEFAULT_CLIENTS`.
    """

    folder: Path
    name: str
    server_reference: str
    client_reference: str
    config: UserConfig
    clients: int

    @classmethod
    def load(cls, folder: Path) -> "AppSpec":
        """Read the app in a folder.

        Raises
        ------
        InputError
            Naming the file, the field and the fix.
        """
        file = folder / _APP_FILE
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the folder that holds the app's {_APP_FILE}")
        if not file.is_file():
            raise InputError(f"{folder}: no {_APP_FILE} here, so this is not a Flower app folder")
        try:
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: not valid TOML: {error}") from error
        app = _table(raw, file, "tool", "flwr", "app")
        components = _table(app, file, "components", prefix="tool.flwr.app.")
        server, client = (_reference(components, key, file) for key in ("serverapp", "clientapp"))
        try:
            config = flower.flatten_dict(app.get("config", {}))
        except ValueError as error:
            raise InputError(f"{file}: [tool.flwr.app.config]: {error}") from error
        own = raw["tool"].get("fedshard", {})
        for key in own if isinstance(own, dict) else ():
            if key != "clients":
                raise InputError(f"{file}: [tool.fedshard]: unknown key '{key}'; {suggest(key, ['clients'])}")
        clients = own.get("clients", DEFAULT_CLIENTS) if isinstance(own, dict) else own
        if not isinstance(clients, int) or isinstance(clients, bool) or clients < 1:
            raise InputError(f"{file}: [tool.fedshard] clients must be a whole number from 1, found {clients!r}")
        project = raw.get("project", {})
        name = project.get("name") if isinstance(project, dict) else None
        # It becomes part of a folder's name: nothing in it may lead elsewhere.
        name = re.sub(r"[^\w.-]+", "-", str(name or folder.resolve().name)).strip(".-") or "app"
        return cls(folder.resolve(), name, server, client, config, clients)


def _table(raw: dict[str, Any], file: Path, *path: str, prefix: str = "") -> dict[str, Any]:
    for depth, key in enumerate(path, start=1):
        raw = raw.get(key, {})
        if not isinstance(raw, dict) or not raw:
            missing = prefix + ".".join(path[:depth])
            raise InputError(f"{file}: section [{missing}] is missing, so this is not a Flower app")
    return raw


def _reference(components: dict[str, Any], key: str, file: Path) -> str:
    reference = components.get(key)
    if not isinstance(reference, str) or not all(reference.partition(":")[::2]):
        raise InputError(f'{file}: [tool.flwr.app.components] needs {key} = "module:attribute", found {reference!r}')
    return reference


def parse_overrides(arguments: Sequence[str], config: UserConfig) -> UserConfig:
    """Parse ``key=value`` overrides against an app's configuration.

    Values are TOML; a bare word is a string. A value must have the type of the one it overrides (a whole number
    may stand for a float).

    Parameters
    ----------
    arguments : sequence of str
        Each ``key=value``, or several separated by spaces as Flower allows.
    config : dict
        The app's flattened configuration.

    Returns
    -------
    dict
        The overrides alone.

    Raises
    ------
    InputError
        For an unknown key (suggesting the near one), a value that is not TOML, or one of another type.
    """
    overrides: UserConfig = {}
    for argument in arguments:
        for key, text in _pairs(argument):
            if key not in config:
                raise InputError(f"-c {key}={text}: the app has no configuration key '{key}'; {suggest(key, config)}")
            overrides[key] = _typed(key, text, config[key])
    return overrides


def _pairs(argument: str) -> list[tuple[str, str]]:
    key, equals, value = argument.partition("=")
    if not equals or not key.strip():
        raise InputError(f"-c {argument}: expected key=value")
    if " " in value.strip() and value.strip()[0] not in "\"'":
        return [pair for part in argument.split() for pair in _pairs(part)]
    return [(key.strip(), value.strip())]


def _typed(key: str, text: str, default: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, str) and not isinstance(value, str):
        value = text
    if type(value) is not type(default):
        raise InputError(f"-c {key}={text}: expected {_kind(default)} (the app's default is {default!r})")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    return names.get(type(value), type(value).__name__)
