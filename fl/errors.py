"""What can go wrong that is not a bug, and the exit code each ends with.

Every one of these reaches the user as one line on standard error, never as a traceback.
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


class BudgetSpentError(FedshardError):
    """No record may take part in another round without passing its privacy budget."""

    exit_code = 3


class InterruptedRunError(FedshardError):
    """The run was stopped by Ctrl-C or SIGTERM; it can be resumed."""

    exit_code = 130
