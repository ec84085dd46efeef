"""The run folder: everything one run leaves behind, and the lock that keeps it to one process.

``runs/<id>/``: ``run.json`` (what was run, with which configuration, code and versions, and how it ended),
``metrics.jsonl``, ``model.safetensors``, and ``private/``, which is never to be shared: ``replies-<n>.log`` and
``snapshot.bin`` (what resume needs: replies, and the states of clients), client secrets, ledgers and logs.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, UserConfig
from safetensors.numpy import save as serialise_arrays

from shards.disk import disk_error, write_atomically
from shards.errors import InputError

SCHEMA_VERSION = 1
_PACKAGES = ("fedshard", "flwr", "torch", "numpy", "scipy", "scikit-learn", "opacus", "cryptography")


@dataclass(frozen=True)
class Manifest:
    """What ``run.json`` holds; a resumed run must agree with it on everything but `status` and `summary`.

    Attributes
    ----------
    run_id : str
        Name of the folder.
    app, name : str
        The app's folder and its project name.
    config : dict
        The resolved run configuration.
    clients, seed : int
        As given to the run.
    client_timeout : float or None
        Seconds per message; None for no limit.
    code : str
        `code_digest` of the app and of fedshard.
    versions : dict
        Of Python and of the packages that results depend on.
    status : str
        ``running``, ``completed``, ``failed``, ``interrupted`` or ``budget-spent``.
    resumable : bool
        False once the record of replies reached its cap on disk use.
    summary : dict or None
        The run's `Summary`, once it ended.
    error : str or None
        Why it failed.
    schema_version : int
        Of this file.
    """

    run_id: str
    app: str
    name: str
    config: UserConfig
    clients: int
    seed: int
    client_timeout: float | None
    code: str
    versions: dict[str, str]
    status: str = "running"
    resumable: bool = True
    summary: dict[str, Any] | None = None
    error: str | None = None
    schema_version: int = SCHEMA_VERSION

    def check_same(self, other: "Manifest") -> None:
        """Refuse to resume as `other`.

        Raises
        ------
        InputError
            In one line that names what changed.
        """
        if self.app != other.app:
            self._refuse(f"it ran the app in {self.app}, not {other.app}")
        for key in sorted({*self.config, *other.config}):
            if self.config.get(key) != other.config.get(key):
                self._refuse(f"'{key}' was {self.config.get(key)!r} and is now {other.config.get(key)!r}")
        for field in ("clients", "seed", "client_timeout"):
            if getattr(self, field) != getattr(other, field):
                self._refuse(f"{field} was {getattr(self, field)} and is now {getattr(other, field)}")
        for package, number in self.versions.items():
            if other.versions.get(package) != number:
                self._refuse(f"{package} was {number} and is now {other.versions.get(package)}")
        if self.code != other.code:
            self._refuse("the code of the app or of fedshard has changed")

    def _refuse(self, why: str) -> None:
        raise InputError(f"cannot resume {self.run_id}: {why}; resume needs what the run started with")


def versions() -> dict[str, str]:
    """Return the versions that a run's results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def code_digest(app: Path) -> str:
    """Return the SHA-256 over the source files of an app folder and of fedshard itself (hexadecimal)."""
    own = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for root in (app, *(own / package for package in ("fl", "consensus", "shards"))):
        for path in sorted(_sources(root)):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__")) and name != "runs"]
        yield from (Path(folder) / name for name in files if name.endswith((".py", ".toml")))


class RunFolder:
    """A run's folder, held by this process until `close`.

    Use `create` or `reopen`; read a folder that may be in use with `read_manifest` and `read_metrics`.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: int) -> None:
        self.path, self.manifest, self._lock = path, manifest, lock
        metrics = path / "metrics.jsonl"
        torn = metrics.exists() and metrics.stat().st_size > 0 and not metrics.read_bytes().endswith(b"\n")
        self._metrics = metrics.open("a", encoding="utf-8")
        if torn:  # a crash left half a line, which must not swallow the next one
            self._metrics.write("\n")

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> "RunFolder":
        """Make a new folder for a run; `manifest.run_id` gains a suffix where the name is taken.

        Raises
        ------
        InputError
            If `root` cannot be written.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            path = _new_folder(root, manifest.run_id)
            (path / "private").mkdir(mode=0o700)
        except OSError as error:
            raise InputError(f"{root}: cannot make a run folder here: {error.strerror}") from error
        manifest = replace(manifest, run_id=path.name)
        folder = cls(path, manifest, _lock(path))
        folder._write_manifest()
        return folder

    @classmethod
    def reopen(cls, path: Path) -> "RunFolder":
        """Open an existing run for resuming.

        Raises
        ------
        InputError
            If it is in use, has ended, or cannot be read.
        """
        manifest = read_manifest(path)
        lock = _lock(path)
        if manifest.status == "completed":
            os.close(lock)
            raise InputError(
                f"cannot resume {manifest.run_id}: it has completed; see `fedshard show {manifest.run_id}`"
            )
        if not manifest.resumable:
            os.close(lock)
            raise InputError(f"cannot resume {manifest.run_id}: its record reached the cap on disk use (--max-disk)")
        return cls(path, manifest, lock)

    @property
    def private(self) -> Path:
        """Where client secrets and ledgers live; never to be shared."""
        return self.path / "private"

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest, durably."""
        self.manifest = replace(self.manifest, **changes)
        self._write_manifest()

    def log(self, kind: str, fields: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``: its kind, the time, and the fields."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **fields})
        try:
            self._metrics.write(line + "\n")
            self._metrics.flush()
        except OSError as error:
            raise disk_error(self.path / "metrics.jsonl", error) from error

    def save_model(self, arrays: ArrayRecord) -> None:
        """Write ``model.safetensors``, durably."""
        tensors = {name: array.numpy() for name, array in arrays.items() if array.stype == "numpy.ndarray"}
        write_atomically(self.path / "model.safetensors", serialise_arrays(tensors))

    def close(self) -> None:
        """Release the folder."""
        with suppress(OSError):
            self._metrics.close()
        os.close(self._lock)

    def _write_manifest(self) -> None:
        write_atomically(self.path / "run.json", (json.dumps(asdict(self.manifest), indent=2) + "\n").encode())


def read_manifest(path: Path) -> Manifest:
    """Read a run's manifest.

    Raises
    ------
    InputError
        If the folder is no run, or was written by another schema version.
    """
    file = path / "run.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"{file}: schema version {raw.get('schema_version')}, this fedshard reads {SCHEMA_VERSION}"
            )
        manifest = Manifest(**raw)
        for field, kind in (("run_id", str), ("app", str), ("status", str), ("config", dict), ("versions", dict)):
            if not isinstance(getattr(manifest, field), kind):
                raise TypeError(f"{field} is {getattr(manifest, field)!r}")
        if not isinstance(manifest.summary, dict | None):
            raise TypeError(f"summary is {manifest.summary!r}")
        return manifest
    except FileNotFoundError as error:
        raise InputError(f"{path}: no run here (no run.json); `fedshard runs` lists the runs") from error
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{file}: damaged, not a run's manifest: {error}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a run's log; a resumed run repeats lines, and an incomplete last line (a crash) is left out."""
    lines = []
    with suppress(FileNotFoundError):
        for line in (path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def _new_folder(root: Path, name: str) -> Path:
    for attempt in range(1000):
        path = root / (f"{name}-{attempt}" if attempt else name)
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise InputError(f"{root}: too many runs named {name}")


def _lock(path: Path) -> int:
    """Lock the folder for this process (advisory; released by the system even after a crash)."""
    descriptor = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by the workers
    except ImportError:  # Windows has no such lock; two processes in one run folder are not detected there
        pass
    except OSError as error:
        os.close(descriptor)
        raise InputError(f"{path}: in use by another process; wait until it ends, or start a new run") from error
    return descriptor
