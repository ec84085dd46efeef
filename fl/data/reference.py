"""Calling what a ``"package.module:function"`` string names, with one clear error line when it fails."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from shards.errors import FedshardError, InputError
from shards.nearest import suggest


def resolve(reference: str) -> Callable[..., object]:
    """Import the function that a reference names.

    Parameters
    ----------
    reference : str
        ``"package.module:function"``; the function may be dotted too, as in ``"module:Class.method"``.

    Returns
    -------
    Callable[..., object]
        The function, not yet called.

    Raises
    ------
    InputError
        If the string has another form, the module is missing or fails to import, the module has no
        such name, or the name is not callable.
    """
    module_name, _, path = reference.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise InputError(f"data {reference}: not of the form 'package.module:function'")
    found: object = _module(module_name, reference)
    for name in path.split("."):
        if not hasattr(found, name):
            public = [known for known in dir(found) if not known.startswith("_")]
            raise InputError(f"data {reference}: {module_name} has no {path!r}; {suggest(name, public)}")
        found = getattr(found, name)
    if not callable(found):
        raise InputError(f"data {reference}: {path} is {type(found).__name__}, not a function; name a function")
    return found


def module_folder(reference: str) -> Path:
    """Return the folder that the module of a reference is imported from: an app's own, if it is the app's module.

    It is the folder that holds the module, or, of a module in packages, the outermost package.

    Raises
    ------
    InputError
        As `resolve` does.
    """
    resolve(reference)
    outermost = importlib.import_module(reference.partition(":")[0].partition(".")[0])
    if outermost.__file__ is None:  # a package without __init__.py
        return Path(next(iter(outermost.__path__))).parent
    file = Path(outermost.__file__)
    return file.parents[1] if hasattr(outermost, "__path__") else file.parent


def call(who: str, function: Callable[[], object]) -> object:
    """Call a user's function.

    Parameters
    ----------
    who : str
        What the call is for, to open the error line.
    function : Callable[[], object]
        The function.

    Returns
    -------
    object
        What it returned, unchecked.

    Raises
    ------
    InputError
        If the function raised; the line names the original error, which is also the cause.
        fedshard's own errors pass unchanged.
    """
    try:
        return function()
    except FedshardError:
        raise
    except Exception as error:
        raise InputError(f"{who}: raised {_one_line(error)}") from error


def _module(name: str, reference: str) -> ModuleType:
    """Import a module, telling a missing one from one that fails."""
    try:
        return importlib.import_module(name)
    except FedshardError:
        raise
    except Exception as error:
        # A module that the user's module fails to import is also "not found", but is not the one to look for.
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InputError(
                f"data {reference}: there is no module {missing!r}; install it, or set PYTHONPATH"
            ) from error
        raise InputError(f"data {reference}: importing {name} raised {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """Return the error's type and message, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
