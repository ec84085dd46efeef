"""The configuration is checked key by key; every mistake is one line that names the key."""

import pytest

from fl.settings import Settings
from fl.task import Classification, Regression
from shards.errors import InputError

LEAST = {"model": "m:build", "data": "m:load", "num-server-rounds": 3}


def test_the_task_is_classification_unless_said_otherwise():
    assert Settings.read(LEAST).objective() == Classification()
    config = {**LEAST, "task": "regression", "target-scale": 100}
    assert Settings.read(config).objective() == Regression(100.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"task": "ranking"}, 'task = \'ranking\': must be "classification" or "regression"'),
        ({"task": True}, "task = True: expected a number or a word"),
        ({"target-scale": 0.0}, "target-scale = 0.0: must be above 0"),
        ({"target-scale": float("inf")}, "target-scale = inf: must be above 0"),
        ({"target-scal": 1.0}, "did you mean 'target-scale'"),
        ({"test-by": 3}, "test-by = 3: expected a string"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(config, message):
    with pytest.raises(InputError) as caught:
        Settings.read({**LEAST, **config}, "app.toml")
    assert str(caught.value).startswith("app.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
