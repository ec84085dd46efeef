import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.data import ByColumn, Dirichlet, Iid, Quantity, make_partitioner
from shards.errors import InputError


def error_of(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@st.composite
def problems(draw):
    """Labels, clients, min_records and alpha, always with rows enough."""
    num_clients = draw(st.integers(1, 30))
    min_records = draw(st.integers(1, 4))
    rows = num_clients * min_records + draw(st.integers(0, 200))
    classes = draw(st.integers(1, 8))
    labels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, classes, rows)
    alpha = draw(st.sampled_from([1e-300, 1e-3, 0.05, 0.5, 5.0, 1e9]))
    return labels, num_clients, min_records, alpha


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(0, 2**64))
def test_every_partition_is_disjoint_covering_fair_and_repeatable(problem, seed):
    labels, num_clients, min_records, alpha = problem
    keys = {"user": np.arange(len(labels)) % (num_clients + 3)}
    for partitioner, least in (
        (Iid(), 1),
        (Dirichlet(alpha, min_records), min_records),
        (Quantity(alpha, min_records), min_records),
        *([(ByColumn("user"), 1)] if len(labels) >= num_clients + 3 else []),
    ):
        parts = partitioner.assign(labels, keys, num_clients, seed)
        assert len(parts) == num_clients
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
        assert min(len(rows) for rows in parts) >= least
        assert all(rows.dtype == np.int64 and np.array_equal(rows, np.sort(rows)) for rows in parts)
        again = partitioner.assign(labels, keys, num_clients, seed)
        assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize("partitioner", [Iid(), Dirichlet(0.5), Quantity(0.5)])
def test_different_seeds_differ_and_global_state_plays_no_part(partitioner):
    labels = np.arange(200) % 5
    np.random.seed(1)
    first = partitioner.assign(labels, {}, 4, 0)
    np.random.seed(2)
    same = partitioner.assign(labels, {}, 4, 0)
    other = partitioner.assign(labels, {}, 4, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_another_process_deals_the_same_rows():
    code = (
        "import numpy as np; from fl.data import Dirichlet;"
        "print([r.tolist() for r in Dirichlet(0.1, 2).assign(np.arange(60) % 3, {}, 8, 5)])"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [rows.tolist() for rows in Dirichlet(0.1, 2).assign(np.arange(60) % 3, {}, 8, 5)]
    assert elsewhere.strip() == str(here)


def test_iid_sizes_differ_by_at_most_one():
    assert [len(rows) for rows in Iid().assign(np.zeros(11, int), {}, 4, 0)] == [3, 3, 3, 2]


def test_dirichlet_with_huge_alpha_shares_each_class_equally():
    labels = np.repeat([0, 1, 2], 40)
    for rows in Dirichlet(1e9).assign(labels, {}, 4, 3):
        assert np.bincount(labels[rows]).tolist() == [10, 10, 10]


def test_dirichlet_rounding_favours_no_client():
    # 100 classes of 20 rows, 50 clients: always rounding cuts down would give the last client 40 + 50 rows.
    labels = np.repeat(np.arange(100), 20)
    sizes = np.mean(
        [[len(rows) for rows in Dirichlet(0.5).assign(labels, {}, 50, seed)] for seed in range(10)], axis=0
    )
    assert sizes.min() > 30
    assert sizes.max() < 50


def test_dirichlet_follows_its_draw_by_hand():
    labels = np.zeros(10, int)
    rng = np.random.default_rng(0)
    order = rng.permutation(10)
    shares = rng.dirichlet([2.0, 2.0])
    cut = int(shares[0] * 10 + rng.random())
    first, second = Dirichlet(2.0).assign(labels, {}, 2, 0)
    assert first.tolist() == sorted(order[:cut].tolist())
    assert second.tolist() == sorted(order[cut:].tolist())


def test_low_alpha_and_many_clients_leave_nobody_short():
    labels = np.arange(300) % 2
    sizes = [len(rows) for rows in Dirichlet(1e-3, min_records=3).assign(labels, {}, 100, 0)]
    assert sizes == [3] * 100  # with exactly enough rows there is one outcome
    sizes = [len(rows) for rows in Dirichlet(1e-3, min_records=2).assign(labels, {}, 100, 0)]
    assert min(sizes) == 2


def test_lower_alpha_means_fewer_classes_per_client():
    labels = np.arange(2000) % 10

    def classes(alpha):
        return np.mean([len(np.unique(labels[rows])) for rows in Dirichlet(alpha).assign(labels, {}, 10, 0)])

    assert classes(0.05) < classes(0.5) < classes(100.0) == 10


def test_quantity_follows_its_draw_by_hand():
    sizes = [len(rows) for rows in Quantity(1.0, min_records=2).assign(np.zeros(16, int), {}, 3, 7)]
    rng = np.random.default_rng(7)
    shares, offset = rng.dirichlet([1.0, 1.0, 1.0]), rng.random()
    first, second = (np.cumsum(shares)[:2] * 10 + offset).astype(int)
    assert sizes == [2 + first, 2 + second - first, 2 + 10 - second]


def test_by_column_deals_sorted_values_in_turn():
    keys = {"user": np.array(["d", "a", "c", "a", "b", "e"])}
    parts = ByColumn("user").assign(np.zeros(6, int), keys, 2, 0)
    assert [rows.tolist() for rows in parts] == [[1, 2, 3, 5], [0, 4]]  # a, c, e and b, d


def test_by_column_errors():
    keys = {"user": np.array([0, 1, 1]), "region": np.zeros(3)}
    assert error_of(ByColumn("usr").assign, np.zeros(3, int), keys, 2, 0) == (
        "partition: there is no key column 'usr'; did you mean 'user'?"
    )
    assert error_of(ByColumn("zzz").assign, np.zeros(3, int), keys, 2, 0) == (
        "partition: there is no key column 'zzz'; choose one of: region, user"
    )
    assert error_of(ByColumn("zzz").assign, np.zeros(3, int), {}, 2, 0) == (
        "partition: there is no key column 'zzz'; there are none to choose from"
    )
    assert error_of(ByColumn("user").assign, np.zeros(3, int), keys, 3, 0) == (
        "partition: key column 'user' has 2 distinct values for 3 clients; use at most 2 clients or another column"
    )


@pytest.mark.parametrize("partitioner", [Iid(), Dirichlet(1.0), Quantity(1.0), ByColumn("user")])
def test_more_clients_than_records(partitioner):
    keys = {"user": np.arange(3)}
    assert error_of(partitioner.assign, np.zeros(3, int), keys, 4, 0) == (
        "partition: 3 records cannot give 4 clients at least 1 each; use at most 3 clients"
    )
    assert error_of(partitioner.assign, np.zeros(3, int), keys, 0, 0) == (
        "partition: num_clients is 0; give at least 1"
    )


def test_more_rows_asked_for_than_there_are():
    assert error_of(Quantity(1.0, 5).assign, np.zeros(3, int), {}, 1, 0) == (
        "partition: 3 records cannot give 1 clients at least 5 each; lower min_records"
    )


def test_make_partitioner_builds_each_kind():
    assert make_partitioner("iid") == Iid()
    assert make_partitioner("dirichlet", alpha=0.3, min_records=4) == Dirichlet(0.3, 4)
    assert make_partitioner("quantity", alpha=2.0) == Quantity(2.0, 1)
    assert make_partitioner("column", column="user") == ByColumn("user")


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("dirichelt", {}, "there is no partition 'dirichelt'; did you mean 'dirichlet'?"),
        ("xyz", {}, "there is no partition 'xyz'; choose one of: column, dirichlet, iid, quantity"),
        ("column", {}, "'column' needs the name of a key column, such as 'user'"),
        ("dirichlet", {"alpha": 0.0}, "dirichlet alpha is 0.0; give a number above 0 and at most 1e+09"),
        (
            "quantity",
            {"alpha": float("nan")},
            "quantity alpha is nan; give a number above 0 and at most 1e+09",
        ),
        ("dirichlet", {"min_records": 0}, "dirichlet min_records is 0; give at least 1"),
    ],
)
def test_make_partitioner_errors(name, options, line):
    assert error_of(make_partitioner, name, **options) == f"partition: {line}"
