"""Files that a crash or a full disk leaves whole: the old one or the new one."""

import contextlib
import errno
import os
from pathlib import Path

from shards.errors import FedshardError


class DiskFullError(FedshardError):
    """The disk, or a cap on its use, is full; everything written before is intact."""

    exit_code = 2


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by one rename, durably; a crash leaves the old or the new one, whole.

    Raises
    ------
    DiskFullError
        If the disk is full; nothing is left behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make the folder's own entries durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_error(path: Path, error: OSError) -> Exception:
    """Turn "no space left" into a one-line error; any other error is returned as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(f"{path}: disk full; what was recorded before is intact, so free space and resume")
    return error
