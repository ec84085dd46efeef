"""Where clients' rows come from.

The protocol is one function, ``load(client, num_clients) -> Records``: what client `client` of
`num_clients` (counted from 0) holds. It is called in whichever process simulates or is that client, so
it must give the same rows every time. A source is named by a string: ``"csv:hospitals"`` and its like are the
user's files; ``"sklearn:digits"`` and its like ship with scikit-learn and are split by a partitioner;
``"package.module:function"`` is the user's own; a single word is the entry point of an installed package.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data.files import FORMATS, FileRows
from fl.data.objects import to_records
from fl.data.partition import Partitioner
from fl.data.records import Records, Task, validate
from fl.data.reference import call, resolve
from fl.data.sklearn_sets import SETS, read_set
from fl.data.spec import DataSpec
from shards.errors import InputError
from shards.nearest import suggest

Load = Callable[[int, int], object]
LoadTest = Callable[[], object]

BUILT_IN = tuple(f"sklearn:{name}" for name in SETS)

ENTRY_POINTS = "fedshard.datasets"
"""The group under which a package offers data sets: functions of the protocol. One that has an attribute ``test``, a
function without arguments, offers the server's public test rows too."""

# A process that simulates many clients keeps up to this many clients' rows at once.
KEPT_CLIENTS = 1024


@dataclass(frozen=True)
class Source:
    """The rows of every client, and the server's test rows; made by `open_source`.

    Attributes
    ----------
    reference : str
        The string that names it.
    load : Callable[[int, int], object]
        The protocol's one function. What it returns is checked, hence typed as any object.
    load_test : Callable[[], object], optional
        Returns the public test rows.
    test_reference : str, optional
        The string that names `load_test`.
    num_classes : int, optional
        Number of classes, where known: labels are checked against it.
    task : "classification" or "regression"
        What the labels are.
    spec : DataSpec
        What the columns of a Hugging Face data set mean that `load` may return.
    """

    reference: str
    load: Load
    load_test: LoadTest | None = field(default=None, compare=False)
    test_reference: str | None = None
    num_classes: int | None = None
    task: Task = "classification"
    spec: DataSpec = field(default_factory=DataSpec)

    def client(self, index: int, num_clients: int) -> Records:
        """Return one client's rows, read once per process.

        Parameters
        ----------
        index : int
            Which client, from 0.
        num_clients : int
            How many clients there are.

        Returns
        -------
        Records
            At least one row, checked, sorted by id, with read-only arrays.

        Raises
        ------
        InputError
            If there is no such client, or its rows cannot be read or used; see `validate`.
        """
        if not 0 <= index < num_clients:
            raise InputError(
                f"data {self.reference}: there is no client {index} of {num_clients}; "
                f"clients are numbered from 0 to {num_clients - 1}"
            )
        return _read_client(self, index, num_clients)

    def test(self) -> Records | None:
        """Return the server's public test rows, or None where the source has none.

        Raises
        ------
        InputError
            If the rows cannot be read or used; see `validate`.
        """
        return _read_test(self)


def open_source(
    reference: str,
    *,
    partitioner: Partitioner,
    test_fraction: float = 0.2,
    seed: int,
    test_reference: str | None = None,
    num_classes: int | None = None,
    task: Task = "classification",
    spec: DataSpec | None = None,
    folder: Path | None = None,
) -> Source:
    """Find the data source that a string names.

    Parameters
    ----------
    reference : str
        ``"csv:PATH"``, ``"parquet:PATH"`` or ``"npz:PATH"``, a file or a folder; ``"sklearn:NAME"`` with NAME one
        of digits, iris, wine, breast_cancer; ``"package.module:function"``, imported here, the function following
        the protocol (it may return a torch or Hugging Face data set too); or the name of an entry point of the
        group ``fedshard.datasets``.
    partitioner : Partitioner
        How a scikit-learn set, or a single file without a client column, is split. Not consulted otherwise.
    test_fraction : float
        Share of a scikit-learn set, in (0, 1), put aside for the server before the split, stratified by
        class. Not consulted otherwise.
    seed : int
        Decides test rows and split, by independent streams; at least 0.
    test_reference : str, optional
        Names the server's public test rows: files as above, or ``"package.module:function"`` of a function
        without arguments that returns `Records`. Not for scikit-learn sets.
    num_classes : int, optional
        Number of classes of a user's data, if labels are to be checked against it.
    task : "classification" or "regression"
        What the labels are.
    spec : DataSpec, optional
        What columns mean; needed for files.
    folder : Path, optional
        Where relative paths start: the app's folder; by default the working directory.

    Returns
    -------
    Source
        The source; no client's rows have been read yet, and no file been looked at.

    Raises
    ------
    InputError
        If the reference names nothing usable, or an argument is out of range.
    """
    if seed < 0:
        raise InputError(f"data {reference}: seed is {seed}; give a whole number from 0")
    spec = spec or DataSpec()
    kind, colon, name = reference.partition(":")
    if kind == "sklearn" and name:
        if task != "classification":
            raise InputError(f"data {reference}: a classification, but task = '{task}'")
        return _open_sklearn(reference, name, partitioner, test_fraction, seed, test_reference)

    def files(text: str) -> FileRows | None:
        form, _, path = text.partition(":")
        if form not in FORMATS:
            return None
        if not spec.target or not path:
            missing = "columns.target is missing; name the column to learn" if path else "name a file or folder"
            raise InputError(f"data {text}: {missing}")
        return FileRows(form, (folder or Path()) / Path(path).expanduser(), spec, task, partitioner, seed)

    load = files(reference) or (resolve(reference) if name else _entry_point(reference, colon))
    test: LoadTest | None = getattr(load, "test", None)
    if test_reference:
        test_rows = files(test_reference)
        test = test_rows.everything if test_rows else resolve(test_reference)
    elif test is not None:
        test_reference = f"{reference}, test"
    return Source(reference, load, test, test_reference, num_classes, task, spec)


def _open_sklearn(
    reference: str, name: str, partitioner: Partitioner, test_fraction: float, seed: int, test_reference: str | None
) -> Source:
    """Open a set that ships with scikit-learn."""
    if name not in SETS:
        raise InputError(f"data {reference}: scikit-learn has no built-in set {name!r}; {suggest(name, SETS)}")
    if test_reference:
        raise InputError(
            f"data {reference}: it has its own test rows; leave out the test reference {test_reference!r}"
        )
    if not 0 < test_fraction < 1:
        raise InputError(f"data {reference}: test_fraction is {test_fraction}; give a number between 0 and 1")
    load = PartitionedSet(name, partitioner, test_fraction, seed)
    return Source(reference, load, load.test, reference, SETS[name].num_classes)


def _entry_point(name: str, colon: str) -> Load:
    """Load the data set that an installed package offers under a name."""
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if colon or name not in offered:
        forms = "'csv:PATH', 'parquet:PATH', 'npz:PATH', 'sklearn:NAME' or 'package.module:function'"
        installed = f"no installed package offers it ({suggest(name, (*offered, *BUILT_IN))})"
        raise InputError(f"data {name}: {installed}, and it is not of the form {forms}")
    return resolve(offered[name].value)


@dataclass(frozen=True)
class PartitionedSet:
    """A scikit-learn set, its training rows dealt to clients: a `load` function of the protocol.

    Attributes
    ----------
    name : str
        Which set.
    partitioner : Partitioner
        How training rows are dealt.
    test_fraction : float
        Share of rows kept from the clients.
    seed : int
        Decides both cuts.
    """

    name: str
    partitioner: Partitioner
    test_fraction: float
    seed: int

    def __call__(self, client: int, num_clients: int) -> Records:
        """Return the rows of client `client` of `num_clients`; raises InputError if they cannot be dealt."""
        train, _ = _train_and_test(self.name, self.test_fraction, self.seed)
        return train.select(_assignment(self, num_clients)[client])

    def test(self) -> Records:
        """Return the rows no client has; raises InputError if `test_fraction` leaves a class out."""
        return _train_and_test(self.name, self.test_fraction, self.seed)[1]


@functools.lru_cache(maxsize=KEPT_CLIENTS)
def _read_client(source: Source, index: int, num_clients: int) -> Records:
    """Load and check one client's rows."""
    who = f"client {index} of {num_clients} ({source.reference})"
    return _checked(source, who, f"{source.reference} client {index}", lambda: source.load(index, num_clients))


@functools.cache
def _read_test(source: Source) -> Records | None:
    """Load and check the test rows."""
    if source.load_test is None:
        return None
    who = f"test rows ({source.test_reference})"
    return _checked(source, who, f"{source.test_reference} test", source.load_test)


def _checked(source: Source, who: str, identity: str, load: LoadTest) -> Records:
    """Load rows, turn them into records and check them; reading another library's data set runs its code too."""
    rows = call(who, lambda: to_records(load(), who, identity, source.spec, source.task))
    return validate(rows, who, source.num_classes, source.task)


@functools.cache
def _train_and_test(name: str, test_fraction: float, seed: int) -> tuple[Records, Records]:
    """Cut a scikit-learn set into training and test rows, stratified by class."""
    from sklearn.model_selection import train_test_split  # late, as in read_set

    whole = read_set(name)
    try:
        train, test = train_test_split(
            np.arange(len(whole)),
            test_size=test_fraction,
            stratify=whole.labels,
            random_state=_stream(seed, 0),
        )
    except ValueError as error:
        raise InputError(
            f"data sklearn:{name}: test_fraction {test_fraction} leaves a part without every class; "
            "give one nearer 0.2"
        ) from error
    return whole.select(train).sorted_by_id(), whole.select(test).sorted_by_id()


@functools.cache
def _assignment(part: PartitionedSet, num_clients: int) -> list[NDArray[np.int64]]:
    """Deal the training rows once per number of clients."""
    train, _ = _train_and_test(part.name, part.test_fraction, part.seed)
    return part.partitioner.assign(train.labels, train.keys, num_clients, _stream(part.seed, 1))


def _stream(seed: int, purpose: int) -> int:
    """Derive an independent 32-bit seed, the widest scikit-learn takes, for one purpose."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])
