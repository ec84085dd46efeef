"""Downloading the public originals of the scenarios' data, checked against checksums that are fixed here."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.request import Request, urlopen

from shards.disk import write_atomically
from shards.errors import FedshardError, InputError
from shards.nearest import suggest

TIMEOUT_S = 30.0
"""How long the server may be silent."""

SUMS = "SHA256SUMS"
"""Written beside the files, as ``sha256sum -c`` reads it."""

_CHUNK = 1 << 20


class DownloadError(FedshardError):
    """The original could not be downloaded; the message says what to place where by hand."""


@dataclass(frozen=True)
class Original:
    """One data set as its publisher offers it.

    Attributes
    ----------
    url : str
        The archive, a zip file; archives inside it are opened too.
    sha256 : str
        Checksum of the archive, in hexadecimal. The publisher states none: these are the ones that several public
        projects recorded independently of each other.
    files : tuple of str
        Patterns of the names to keep, folders left out.
    page : str
        Where people read about it and download it by hand.
    credit : str
        Who made it, and the licence.
    """

    url: str
    sha256: str
    files: tuple[str, ...]
    page: str
    credit: str


_UCI = "https://archive.ics.uci.edu"

ORIGINALS = {
    "hospitals": Original(
        f"{_UCI}/static/public/45/heart+disease.zip",
        "b17cd273da9ce1caa4710fce80227ea454d4dbf9fcbc8e6a9121672751563adc",
        ("processed.cleveland.data", "processed.hungarian.data", "processed.switzerland.data", "processed.va.data"),
        f"{_UCI}/dataset/45/heart+disease",
        "Janosi, Steinbrunn, Pfisterer, Detrano (1989), CC BY 4.0",
    ),
    "activity": Original(
        f"{_UCI}/static/public/240/human+activity+recognition+using+smartphones.zip",
        "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
        ("total_acc_?_*.txt", "body_acc_?_*.txt", "body_gyro_?_*.txt", "subject_t*.txt", "y_t*.txt"),
        f"{_UCI}/dataset/240/human+activity+recognition+using+smartphones",
        "Reyes-Ortiz, Anguita, Ghio, Oneto, Parra (2013), CC BY 4.0",
    ),
    "air-quality": Original(
        f"{_UCI}/static/public/501/beijing+multi+site+air+quality+data.zip",
        "b04da438b2f331ac0ffd45aebdfec0d20d2367feb5f6948c4b1f7ce1191e33c4",
        ("PRSA_Data_*.csv",),
        f"{_UCI}/dataset/501/beijing+multi+site+air+quality+data",
        "Chen (2017), CC BY 4.0",
    ),
}
"""The originals by scenario."""


def fetch(name: str, folder: Path) -> list[Path]:
    """Download a scenario's original into a folder, or check what an earlier call left there.

    Nothing is written before the archive's checksum was found right, and each file appears whole.

    Parameters
    ----------
    name : str
        A key of `ORIGINALS`.
    folder : Path
        Made if it does not exist.

    Returns
    -------
    list of Path
        The files, by name; beside them is `SUMS`, written last.

    Raises
    ------
    InputError
        If there is no such scenario, the folder cannot be written, or a file there was changed since.
    DownloadError
        If the server cannot be reached, or what it sent has another checksum.
    DiskFullError
        If the disk is full.
    """
    original = ORIGINALS.get(name)
    if original is None:
        raise InputError(f"data fetch {name}: there is no original of that name; {suggest(name, ORIGINALS)}")
    present = _present(folder)
    if present:
        return present
    archive = _download(original, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    sums = {}
    for member, content in _members(io.BytesIO(archive), original.files):
        sums[member] = hashlib.sha256(content).hexdigest()
        _write(folder / member, content)
    lines = "".join(f"{sums[member]}  {member}\n" for member in sorted(sums))
    _write(folder / SUMS, lines.encode())
    return [folder / member for member in sorted(sums)]


def _present(folder: Path) -> list[Path]:
    """Return what an earlier call left, checked; nothing if none was finished."""
    if not (folder / SUMS).is_file():
        return []
    files = []
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        expected, _, member = line.partition("  ")
        path = folder / member
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise InputError(
                f"{path}: changed or gone since it was fetched; remove {folder / SUMS} to fetch it again"
            )
        files.append(path)
    return files


def _download(original: Original, folder: Path) -> bytes:
    """Return the archive, its checksum found right."""
    by_hand = (
        f"by hand: get {original.url} (see {original.page}) and unpack {', '.join(original.files)} into {folder}"
    )
    content = bytearray()
    try:
        with urlopen(Request(original.url, headers={"User-Agent": "fedshard"}), timeout=TIMEOUT_S) as reply:
            while chunk := reply.read(_CHUNK):
                content += chunk
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())
        raise DownloadError(f"{original.url}: cannot be downloaded ({reason}); {by_hand}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != original.sha256:
        raise DownloadError(
            f"{original.url}: its SHA-256 is {found}, expected {original.sha256}: it was changed, at its source or "
            f"on the way, and nothing was kept; {by_hand}"
        )
    return bytes(content)


def _members(archive: BinaryIO, patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield (name without folders, content) of the files wanted, those of archives inside too."""
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            path = PurePosixPath(entry.filename)
            if "__MACOSX" in path.parts or entry.is_dir():
                continue
            if path.suffix == ".zip":
                yield from _members(io.BytesIO(opened.read(entry)), patterns)
            elif any(fnmatch(path.name, pattern) for pattern in patterns):
                yield path.name, opened.read(entry)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
