"""How a run can end early without a bug, beside bad input; see `shards.errors` for the base."""

from shards.errors import FedshardError


class BudgetSpentError(FedshardError):
    """No record may take part in another round without passing its privacy budget."""

    exit_code = 3


class InterruptedRunError(FedshardError):
    """The run was stopped by Ctrl-C or SIGTERM; it can be resumed."""

    exit_code = 130
