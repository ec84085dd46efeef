"""Observers that a user names on the command line; none of them can lose a run."""

import importlib
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from fl.engine.events import BatchEvent, Observer, RoundEvent
from shards.errors import InputError
from shards.nearest import suggest

SHIPPED = {"tensorboard": "fl.run.tensorboard:TensorBoard"}
"""Names that stand for a class of ours."""

MakeTracker = Callable[[Path], Observer]


def find_tracker(name: str) -> MakeTracker:
    """Find the class behind a ``--track`` argument; modules beside the app or in the working directory are found too.

    Parameters
    ----------
    name : str
        ``module:ClassName``, or a name in `SHIPPED`.

    Returns
    -------
    callable
        Makes the observer from the path of the run's folder.

    Raises
    ------
    InputError
        If there is no such module or class, or it needs a package that is not installed.
    """
    module_name, colon, class_name = SHIPPED.get(name, name).partition(":")
    if not (module_name and colon and class_name):
        raise InputError(f"--track {name}: {suggest(name, SHIPPED)}; or name a class as module:ClassName")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"--track {name}: cannot import {module_name}: {type(error).__name__}: {reason}") from error
    made = getattr(module, class_name, None)
    if not callable(made):
        classes = [known for known, value in vars(module).items() if isinstance(value, type)]
        raise InputError(f"--track {name}: {module_name} has no class '{class_name}'; {suggest(class_name, classes)}")
    return made  # type: ignore[no-any-return]


class Tracker:
    """Hands events to an observer, one at a time; one that raises is dropped with a warning, and the run goes on.

    Parameters
    ----------
    name : str
        As the user gave it.
    make : callable
        Makes the observer; called when the first event arrives, once workers have been started.
    folder : Path
        The run's folder, for `make`.
    warn : callable
        Receives the warning, one line.
    """

    def __init__(self, name: str, make: MakeTracker, folder: Path, warn: Callable[[str], None]) -> None:
        self._name, self._make, self._folder, self._warn = name, make, folder, warn
        self._observer: Observer | None = None
        self._dropped = False
        self._lock = threading.Lock()

    def on_batch(self, event: BatchEvent) -> None:
        """Hand on an exchange."""
        self._tell(lambda observer: observer.on_batch(event))

    def on_round(self, event: RoundEvent) -> None:
        """Hand on a round."""
        self._tell(lambda observer: observer.on_round(event))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        with self._lock:
            if self._dropped:
                return
            try:
                self._observer = self._observer or self._make(self._folder)
                call(self._observer)
            except Exception as error:
                self._dropped, self._observer = True, None
                self._warn(f"--track {self._name}: dropped, the run goes on without it: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Name the exception and the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}:{frame.lineno})"
