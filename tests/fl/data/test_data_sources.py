import pickle
import sys

import numpy as np
import pytest

from fl.data import ByColumn, Dirichlet, Iid, Records, open_source, validate
from fl.data.sklearn_sets import SETS, scale
from fl.errors import InterruptedRunError
from shards.errors import InputError

MODULE = """
import numpy as np
from fl.data import Records
from fl.errors import InterruptedRunError

calls = []
number = 3

def rows(count, labels=None):
    labels = np.zeros(count, int) if labels is None else labels
    return Records(np.ones((count, 2)), labels, np.arange(count)[::-1], {"time": np.arange(count)})

def load(client, num_clients):
    calls.append((client, num_clients))
    return rows(client + 1)

def test():
    calls.append("test")
    return rows(7)

def failing(client, num_clients):
    raise ValueError("cannot open\\n  the file")

def stopped(client, num_clients):
    raise InterruptedRunError("stopped")

def nothing(client, num_clients):
    return None

def empty(client, num_clients):
    return rows(0)

def labelled(client, num_clients):
    return rows(2, np.array([0, 9]))

class Store:
    @staticmethod
    def load(client, num_clients):
        return rows(2)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module, importable as `own_data`."""
    (tmp_path / "own_data.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "own_needs.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_data", raising=False)  # its call list starts empty
    import own_data

    return own_data


def opened(reference, **options):
    return open_source(reference, **({"partitioner": Iid(), "seed": 0} | options))


def error_of(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SHAPES = {"digits": (1797, 64, 10), "iris": (150, 4, 3), "wine": (178, 13, 3), "breast_cancer": (569, 30, 2)}


@pytest.mark.parametrize("name", SETS)
def test_built_in_sets_are_dealt_without_loss_and_tested_apart(name):
    rows, width, classes = SHAPES[name]
    source = opened(f"sklearn:{name}", partitioner=Dirichlet(0.5))
    clients = [source.client(index, 5) for index in range(5)]
    test = source.test()
    assert source.num_classes == classes
    assert len(test) == -(-rows // 5)
    ids = np.concatenate([test.ids, *(records.ids for records in clients)])
    assert np.array_equal(np.sort(ids), np.arange(rows))
    for records in (test, *clients):
        assert records.features.dtype == np.float32
        assert records.features.shape == (len(records), width)
        assert records.features.min() >= 0
        assert records.features.max() <= 1
        assert np.array_equal(records.keys["class"], records.labels)
        assert (np.diff(records.ids) > 0).all()


@pytest.mark.parametrize("name", SETS)
def test_bounds_fit_every_column_and_hardly_clip(name):
    from sklearn import datasets

    values, _ = getattr(datasets, f"load_{name}")(return_X_y=True)
    low, high = np.array(SETS[name].bounds).T
    assert low.shape == (values.shape[1],)
    assert (low < high).all()
    assert ((values < low) | (values > high)).mean() < 0.005


def test_scale_by_hand():
    scaled = scale(np.array([[0.0, 15.0], [5.0, 10.0], [-1.0, 40.0]]), ((0, 10), (10, 30)))
    assert scaled.tolist() == [[0.0, 0.25], [0.5, 0.0], [0.0, 1.0]]
    assert scaled.dtype == np.float32


def test_test_rows_are_stratified_and_fixed_by_the_seed():
    source = opened("sklearn:iris", test_fraction=0.3)
    assert np.bincount(source.test().labels).tolist() == [15, 15, 15]
    assert np.array_equal(source.test().ids, opened("sklearn:iris", test_fraction=0.3).test().ids)
    other = opened("sklearn:iris", test_fraction=0.3, seed=1)
    assert not np.array_equal(source.test().ids, other.test().ids)
    assert opened("sklearn:iris", seed=2**80).test() is not None


def test_the_partition_decides_who_has_what():
    source = opened("sklearn:iris", partitioner=ByColumn("class"))
    assert [np.unique(source.client(index, 3).labels).tolist() for index in range(3)] == [[0], [1], [2]]
    assert "has 3 distinct values for 4 clients" in error_of(source.client, 0, 4)
    assert "120 records cannot give 121 clients" in error_of(opened("sklearn:iris").client, 0, 121)


def test_a_client_is_read_once_even_through_another_equal_source():
    source = opened("sklearn:wine")
    assert source.client(1, 4) is source.client(1, 4)
    assert source.client(1, 4) is opened("sklearn:wine").client(1, 4)
    assert source.client(1, 4) is not opened("sklearn:wine", seed=1).client(1, 4)
    assert source.test() is source.test()


def test_a_source_travels_to_another_process():
    source = opened("sklearn:iris", partitioner=Dirichlet(0.5))
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert np.array_equal(copy.client(0, 3).ids, source.client(0, 3).ids)
    assert isinstance(pickle.loads(pickle.dumps(source.client(0, 3))), Records)


def test_own_function_is_called_once_per_client_and_checked(own):
    source = opened("own_data:load", test_reference="own_data:test")
    assert own.calls == []
    assert len(source.client(2, 5)) == 3
    source.client(2, 5)
    source.client(0, 5)
    assert own.calls == [(2, 5), (0, 5)]
    assert source.client(2, 5).ids.tolist() == [0, 1, 2]
    assert len(source.test()) == 7
    source.test()
    assert own.calls == [(2, 5), (0, 5), "test"]
    assert source.num_classes is None
    assert opened("own_data:load").test() is None
    assert len(opened("own_data:Store.load").client(0, 1)) == 2


def test_own_function_that_fails(own):
    assert error_of(opened("own_data:failing").client, 3, 20) == (
        "client 3 of 20 (own_data:failing): raised ValueError: cannot open the file"
    )
    assert error_of(opened("own_data:test").client, 3, 20) == (
        "client 3 of 20 (own_data:test): raised TypeError: test() takes 0 positional arguments but 2 were given"
    )
    assert error_of(opened("own_data:nothing").client, 3, 20) == (
        "client 3 of 20 (own_data:nothing): expected fl.data.Records, got NoneType; "
        "return Records(features, labels, ids, keys)"
    )
    assert error_of(opened("own_data:empty").client, 3, 20).startswith(
        "client 3 of 20 (own_data:empty) has no rows: "
    )
    assert "record 0 has unknown label 9" in error_of(opened("own_data:labelled", num_classes=3).client, 0, 1)
    assert error_of(opened("own_data:load", test_reference="own_data:load").test) == (
        "test rows (own_data:load): raised TypeError: "
        "load() missing 2 required positional arguments: 'client' and 'num_clients'"
    )
    with pytest.raises(InterruptedRunError):
        opened("own_data:stopped").client(0, 1)


def test_no_such_client():
    source = opened("sklearn:iris")
    line = "data sklearn:iris: there is no client {} of 5; clients are numbered from 0 to 4"
    assert error_of(source.client, 5, 5) == line.format(5)
    assert error_of(source.client, -1, 5) == line.format(-1)


@pytest.mark.parametrize(
    ("reference", "options", "line"),
    [
        ("sklearn:digit", {}, "scikit-learn has no built-in set 'digit'; did you mean 'digits'?"),
        (
            "sklearn:x",
            {},
            "scikit-learn has no built-in set 'x'; choose one of: breast_cancer, digits, iris, wine",
        ),
        (
            "digits",
            {},
            "no installed package offers it (did you mean 'sklearn:digits'?), and it is not of the form 'csv:PATH', "
            "'parquet:PATH', 'npz:PATH', 'sklearn:NAME' or 'package.module:function'",
        ),
        ("a b:c", {}, "not of the form 'package.module:function'"),
        ("a:b:c", {}, "not of the form 'package.module:function'"),
        ("no_such_mod.sub:f", {}, "there is no module 'no_such_mod'; install it, or set PYTHONPATH"),
        ("own_data.sub:f", {}, "there is no module 'own_data.sub'; install it, or set PYTHONPATH"),
        (
            "own_needs:f",
            {},
            "importing own_needs raised ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        ("own_broken:f", {}, "importing own_broken raised RuntimeError: no licence"),
        ("own_data:laod", {}, "own_data has no 'laod'; did you mean 'load'?"),
        ("own_data:number", {}, "number is int, not a function; name a function"),
        ("sklearn:iris", {"seed": -1}, "seed is -1; give a whole number from 0"),
        ("sklearn:iris", {"test_fraction": 1.0}, "test_fraction is 1.0; give a number between 0 and 1"),
        (
            "sklearn:iris",
            {"test_reference": "a:b"},
            "it has its own test rows; leave out the test reference 'a:b'",
        ),
    ],
)
def test_references_that_name_nothing_usable(own, reference, options, line):
    assert error_of(opened, reference, **options) == f"data {reference}: {line}"


def test_too_small_a_test_fraction():
    assert error_of(opened("sklearn:iris", test_fraction=0.01).test) == (
        "data sklearn:iris: test_fraction 0.01 leaves a part without every class; give one nearer 0.2"
    )


def test_validated_rows_pass_again():
    records = opened("sklearn:iris").client(0, 2)
    assert np.array_equal(validate(records, "client 0 of 2").features, records.features)
