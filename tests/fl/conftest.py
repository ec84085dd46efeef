"""What tests of the command line share."""

import json

import pytest

from fl.cli import main


@pytest.fixture
def fedshard(capsys):
    """Run a command line; return standard output (parsed where it is JSON) after checking the exit status."""

    def call(*arguments, status=0):
        result = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert result == status, err
        return json.loads(out) if "--json" in arguments and status == 0 else out + err

    return call
