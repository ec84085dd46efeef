"""Where a store keeps its files: a folder, or memory. Both promise the same, and neither knows what a shard is."""

import contextlib
import errno
import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Protocol

from shards.disk import disk_error, sync_folder
from shards.errors import InputError

TEMPORARY = ".tmp"
"""Ending of a file that is not yet whole."""

_LOCK = "lock"
PATIENCE_S = 2.0
"""How long a writer waits for another one, unless told otherwise: several commits, no training."""


Content = Sequence[bytes | memoryview]
"""A file's bytes, in parts that follow one another."""


class Files(Protocol):
    """Named files that are written once, whole or not at all, and never changed.

    Attributes
    ----------
    where : str
        What opens an error line.
    verified : set of str
        Files whose checksum this process has seen to be right.
    """

    where: str
    verified: set[str]

    def names(self) -> list[str]:
        """Return the names of all files."""

    def write(self, files: Iterable[tuple[str, Content]]) -> None:
        """Write files durably: when this returns, a power failure loses none of them.

        Raises
        ------
        DiskFullError
            If the disk is full; no torn file is left behind.
        """

    def sync(self) -> None:
        """Make removals durable as well.

        Raises
        ------
        DiskFullError
            If the disk has no room to note them.
        """

    def map(self, name: str) -> memoryview:
        """Return a file's content; writing to it, where that is possible, changes neither the file nor other maps.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """

    def remove(self, name: str) -> bool:
        """Remove a file unless somebody holds it; return whether it is gone."""

    def holding(self, name: str) -> AbstractContextManager[None]:
        """Keep a file from being removed, in any process, until the context ends or this process does.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """

    def writing(self, wait: bool = True) -> AbstractContextManager[None]:
        """Be the only writer, over all processes, after waiting a little for another one.

        Raises
        ------
        InputError
            If another writer does not end soon.
        """


class FolderFiles:
    """Files in a folder, which is created with the first one.

    Parameters
    ----------
    folder : Path
        The folder; other files in it are left alone.
    patience_s : float
        How long a writer waits for another one, in seconds.
    """

    def __init__(self, folder: Path | str, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._folder = Path(folder)
        self.where = str(folder)
        self.verified = _verified_in(self._folder.resolve())

    def names(self) -> list[str]:
        """Return the names of all files."""
        try:
            return [path.name for path in self._folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise InputError(f"{self.where}: no permission to read this folder; change its mode or owner") from error

    def write(self, files: Iterable[tuple[str, Content]]) -> None:
        """Write files durably; see `Files.write`."""
        waiting: dict[Path, Path] = {}
        path = self._folder
        try:
            for name, content in files:
                path = self._folder / name
                waiting[path] = path.with_name(name + TEMPORARY)
                _write(waiting[path], content)
            for (
                temporary
            ) in waiting.values():  # after all are written: the first sync then carries most of the others
                _sync(temporary)
            for path, temporary in waiting.items():
                temporary.replace(path)
            if waiting:
                sync_folder(self._folder)
        except OSError as error:
            for temporary in waiting.values():
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise disk_error(path, error) from error

    def sync(self) -> None:
        """Make removals durable as well; see `Files.sync`."""
        try:
            sync_folder(self._folder)
        except OSError as error:
            raise disk_error(self._folder, error) from error

    def map(self, name: str) -> memoryview:
        """Return a file's content as a private, copy-on-write map; see `Files.map`."""
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size  # an empty file cannot be mapped
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) if size else b"")
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> bool:
        """Remove a file unless somebody holds it; see `Files.remove`."""
        path = self._folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            if not _lock(descriptor, shared=False):
                return False
            path.unlink()
        finally:
            os.close(descriptor)
        self.verified.discard(name)
        return True

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Keep a file from being removed; the system lets go when this process ends, however it ends."""
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _lock(descriptor, shared=True)
            if os.fstat(descriptor).st_nlink == 0:  # removed between opening and locking
                raise FileNotFoundError(name)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """Be the only writer; see `Files.writing`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{self.where}: not a folder; name a folder for the shard store") from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise InputError(f"{self.where}: no permission to write here; change its mode or owner") from error
            raise disk_error(self._folder, error) from error
        try:
            deadline = time.monotonic() + (self._patience_s if wait else 0)
            while not _lock(descriptor, shared=False):
                if time.monotonic() > deadline:
                    raise _busy(self.where)
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)


class MemoryFiles:
    """Files in this process's memory; there is nothing to make durable, and they go with the object.

    Parameters
    ----------
    patience_s : float
        How long a writer waits for another thread's, in seconds.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self.where = "shard store in memory"
        self.verified: set[str] = set()
        self._files: dict[str, bytes] = {}
        self._held: Counter[str] = Counter()
        self._writer = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all files."""
        return list(self._files)

    def write(self, files: Iterable[tuple[str, Content]]) -> None:
        """Keep files, all of them or none; see `Files.write`."""
        self._files |= {name: b"".join(content) for name, content in files}

    def sync(self) -> None:
        """Do nothing: memory is as durable as it gets."""

    def map(self, name: str) -> memoryview:
        """Return a file's content, which cannot be written to; see `Files.map`."""
        if name not in self._files:
            raise FileNotFoundError(name)
        return memoryview(self._files[name])

    def remove(self, name: str) -> bool:
        """Remove a file unless somebody holds it; see `Files.remove`."""
        if self._held[name]:
            return False
        self._files.pop(name, None)
        self.verified.discard(name)
        return True

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Keep a file from being removed; see `Files.holding`."""
        if name not in self._files:
            raise FileNotFoundError(name)
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1

    @contextlib.contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """Be the only writer; see `Files.writing`."""
        if not self._writer.acquire(timeout=self._patience_s if wait else 0):
            raise _busy(self.where)
        try:
            yield
        finally:
            self._writer.release()


@cache
def _verified_in(folder: Path) -> set[str]:
    """One set per folder and process, whoever opens it: a checksum is computed once, not once a round."""
    return set()


def _write(path: Path, content: Content) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        for part in content:
            left = memoryview(part)
            while left:
                left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool) -> bool:
    """Lock an open file: shared when nobody is removing it, or exclusively, returning False where it is in use."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; two processes in one store are not detected there
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(where: str) -> InputError:
    return InputError(f"{where}: another process is writing to this store; wait until it ends, then try again")
