"""Killing a process, filling the disk or cutting the power at any system call that changes files."""

import contextlib
import errno
import os
import signal
from pathlib import Path

CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir")
_REAL = {name: getattr(os, name) for name in CALLS}


@contextlib.contextmanager
def watched(before):
    """Call ``before(name, arguments)`` ahead of each system call in `CALLS`.

    Calls that it makes itself are left out, as are those that open a file to read it, which change nothing.
    """
    inside = []

    def wrapped(name):
        def call(*arguments, **keywords):
            reads = name == "open" and not arguments[1] & os.O_CREAT
            if not inside and not reads:
                inside.append(name)
                try:
                    before(name, arguments)
                finally:
                    inside.clear()
            return _REAL[name](*arguments, **keywords)

        return call

    try:
        for name in CALLS:
            setattr(os, name, wrapped(name))
        yield
    finally:
        for name, real in _REAL.items():
            setattr(os, name, real)


class At:
    """Does something at the n-th call, counted from 0."""

    def __init__(self, step, then):
        self.left, self.then = step, then

    def __call__(self, name, arguments):
        self.left -= 1
        if self.left == -1:
            self.then(name, arguments)


def kill(name, arguments):
    """End this process as nothing can prevent, in the middle of a write."""
    if name == "write":
        _REAL[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step, work, *arguments):
    """Run `work` in a child that is killed at a step; return whether it was, or else came to its end."""
    child = os.fork()
    if child == 0:
        try:
            with watched(At(step, kill)):
                work(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def full(name, arguments):
    """Answer as a full disk does to a call that may need space, in the middle of a write."""
    if name == "write":
        _REAL[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
    if name != "unlink":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """What a folder's disk holds if the power fails: of each file no more than what was synced."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}  # of each inode now in use: a list of its synced content, shared with `names`
        for path in folder.iterdir():
            self._file(path)[0] = path.read_bytes()
        self.names = self._names()  # when the folder itself was synced

    def _file(self, path):
        return self.files.setdefault(path.stat().st_ino, [b""])

    def _names(self):
        return {path.name: self._file(path) for path in self.folder.iterdir()}

    def __call__(self, name, arguments):
        """Take note of a call that is about to be made."""
        if name == "fsync":
            synced = Path(f"/proc/self/fd/{arguments[0]}").resolve()
            if synced == self.folder.resolve():
                self.names = self._names()
            else:
                self._file(synced)[0] = synced.read_bytes()
        elif name in ("unlink", "replace") and Path(arguments[-1]).exists():
            self.files.pop(Path(arguments[-1]).stat().st_ino, None)  # the number may be given to another file

    def after_power_failure(self, folder, eager):
        """Lay out in a new folder what is left, with the names of the last sync or, if eager, those of now."""
        folder.mkdir()
        for name, content in (self._names() if eager else self.names).items():
            (folder / name).write_bytes(content[0])
