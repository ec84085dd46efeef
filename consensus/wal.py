"""Finding out whether sqlite would silently leave out commits that were acknowledged.

sqlite takes the first damaged frame of its side file for the end. That is right after a crash tore the last write,
and wrong after the disk changed something before it. The two look different: what a crash tore is one commit, since
the next is only written once the one before is synced. A damaged header alone looks like a file that began anew.
"""

import struct

_HEADER = struct.Struct(">8I")  # magic, version, page size, number, salts, checksums; see sqlite's fileformat2.html
_FRAME = struct.Struct(">6I")  # page number, size of the database after a commit or 0, salts, checksums
_BIG_ENDIAN = 0x377F0683


def commits_cut_off(data: bytes, page: int) -> int:
    """Count the commits that lie behind the first damaged frame.

    Parameters
    ----------
    data : bytes
        The side file, as a crash left it.
    page : int
        The database's page size in bytes.

    Returns
    -------
    int
        0 or 1 is what a crash may leave. More were acknowledged and are lost.
    """
    if len(data) < _HEADER.size:
        return 0
    header = _HEADER.unpack_from(data)
    salts = header[4:6]
    order = ">" if header[0] == _BIG_ENDIAN else "<"
    so_far = _sum(order, data[:24], (0, 0))
    if so_far != header[6:8]:
        return 0
    whole, behind = True, 0
    for start in range(_HEADER.size, len(data) - _FRAME.size - page + 1, _FRAME.size + page):
        frame = _FRAME.unpack_from(data, start)
        if whole:
            so_far = _sum(order, data[start : start + 8], so_far)
            so_far = _sum(order, data[start + _FRAME.size : start + _FRAME.size + page], so_far)
            whole = frame[2:4] == salts and frame[4:6] == so_far
        if not whole and frame[2:4] == salts and frame[1]:
            behind += 1
    return behind


def _sum(order: str, data: bytes, before: tuple[int, int]) -> tuple[int, int]:
    first, second = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
