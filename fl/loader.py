"""A loader of the app's own: ``data`` says where its files are, its code says how they are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fl.data.spec import Value


@dataclass(frozen=True)
class Place:
    """What a loader is told beside which client it loads.

    Attributes
    ----------
    folder : Path
        What ``data`` names; a relative path starts at the app's folder.
    seed : int
        The ``data-seed``: decides test rows and whatever else is drawn.
    options : tuple of (str, value)
        The app's own keys, without their prefix ``user.``, sorted.
    """

    folder: Path
    seed: int
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def user(self) -> Mapping[str, Value]:
        """The app's own keys as a mapping."""
        return dict(self.options)


@dataclass(frozen=True)
class Loader:
    """A `load` function of the protocol made from ``load(client, num_clients, place)``."""

    function: Callable[..., object]
    place: Place

    def __call__(self, client: int, num_clients: int) -> object:
        """Return what the function does for this client."""
        return self.function(client, num_clients, self.place)


@dataclass(frozen=True)
class TestLoader:
    """A `load_test` function made from ``load_test(place)``."""

    function: Callable[..., object]
    place: Place

    def __call__(self) -> object:
        """Return what the function does."""
        return self.function(self.place)
