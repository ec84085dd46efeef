"""The secret of a real client: made once on its machine, kept in one file, never sent."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from fl.privacy.prf import SECRET_BYTES
from shards.errors import InputError

_FILE_NAME = "client.secret"


def client_secret(folder: Path) -> bytes:
    """Load the client's secret, or make it on first use.

    Parameters
    ----------
    folder : Path
        The client's private folder; it must exist.

    Returns
    -------
    bytes
        32 bytes from the operating system's generator. Processes that race to make the file all get the same.

    Raises
    ------
    InputError
        If the folder cannot be used, the file is not 32 bytes long, or others than its owner may read it.

    Notes
    -----
    Keep the file together with the ledger. Restoring an older ledger forgets charges; losing the secret
    only means that unsent events can no longer be repeated.
    """
    path = folder / _FILE_NAME
    try:
        if not path.exists():
            _create(path)
        return _load(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the client a folder it may write to") from error


def _create(path: Path) -> None:
    """Write a secret under a temporary name, make it durable, link it unless another process was first."""
    handle, name = tempfile.mkstemp(prefix=f".{_FILE_NAME}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # a link never replaces a file, unlike a rename
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    if os.name == "posix":  # elsewhere a folder cannot be opened, and needs no such call
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _load(path: Path) -> bytes:
    """Read the secret and check that it is whole and private."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InputError(f"{path} can be read by others; make it private with chmod 600 and consider it spent")
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise InputError(f"{path} has {len(secret)} bytes, not {SECRET_BYTES}; restore it from a backup")
    return secret
