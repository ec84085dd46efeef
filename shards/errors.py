"""The two errors every floor raises, and the exit status each ends with.

They reach the user as one line on standard error, never as a traceback.
"""


class FedshardError(Exception):
    """Base of the errors a command line reports in one line.

    Attributes
    ----------
    exit_code : int
        The process exit status: 1 failure, 2 bad input, 3 privacy budget spent, 130 interrupted.
    """

    exit_code = 1


class InputError(FedshardError):
    """The user's input cannot be used; the message names the file or key, what is wrong and the fix."""

    exit_code = 2
