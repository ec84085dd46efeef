"""Naming the near match when a user's word is not one of the known ones."""

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all.

    Parameters
    ----------
    word : str
        What the user wrote.
    known : Iterable[str]
        The words that would have been accepted.

    Returns
    -------
    str
        ``"did you mean 'x'?"`` when a known word is close (`difflib`, its default cutoff of 0.6),
        else ``"choose one of: a, b, c"``, sorted; ``"there are none to choose from"`` when `known` is empty.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if choices:
        return f"choose one of: {', '.join(choices)}"
    return "there are none to choose from"
