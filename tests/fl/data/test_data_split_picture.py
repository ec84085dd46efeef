import json
import sys

import numpy as np
import pytest

from fl.data import Dirichlet, Records, class_counts, describe_split, plot_split
from shards.errors import InputError


def client(labels, first_id=0):
    labels = np.array(labels, dtype=np.int64)
    return Records(np.zeros((len(labels), 1), np.float32), labels, first_id + np.arange(len(labels)))


def split(num_clients, classes, rows):
    whole = client(np.arange(rows) % classes)
    return [whole.select(part) for part in Dirichlet(0.5).assign(whole.labels, {}, num_clients, 0)]


def test_counts_by_hand():
    classes, counts = class_counts([client([5, 2, 5]), client([]), client([2])])
    assert classes.tolist() == [2, 5]
    assert counts.tolist() == [[1, 2], [0, 0], [1, 0]]


def test_description_by_hand():
    described = describe_split([client([0, 0, 0, 1]), client([1, 1], first_id=4), client([0, 1], first_id=5)])
    # Pooled: one half each. Distances: 1/4, 1/2 and 0. Record 5 is with the last two clients.
    assert described == {
        "clients": 3,
        "records": 8,
        "classes": 2,
        "records_per_client": {"min": 2, "median": 2.0, "max": 4},
        "classes_per_client": {"min": 1, "median": 2.0, "max": 2},
        "shared_ids": 1,
        "label_skew": 0.25,
    }
    assert json.loads(json.dumps(described)) == described


def test_skew_is_nothing_for_equal_mixes_and_near_one_for_own_classes():
    assert describe_split([client([0, 1]), client([0, 0, 1, 1], 10)])["label_skew"] == 0
    own = [client([label] * 3, 10 * label) for label in range(50)]
    assert describe_split(own)["label_skew"] == pytest.approx(0.98)


def test_targets_of_a_regression_are_counted_by_tenths():
    targets = np.arange(100, dtype=np.float32)
    parts = [Records(np.zeros((len(t), 1), np.float32), t, t.astype(int)) for t in (targets[:50], targets[50:])]
    classes, counts = class_counts(parts)
    assert classes.tolist() == list(range(10))
    assert counts.tolist() == [[10] * 5 + [0] * 5, [0] * 5 + [10] * 5]
    assert describe_split(parts)["label_skew"] == pytest.approx(0.5)


def test_nothing_to_describe():
    for clients in ([], [client([])]):
        with pytest.raises(InputError, match=r"^split: no client has a row; there is nothing to describe$"):
            describe_split(clients)


@pytest.mark.parametrize(("num_clients", "classes"), [(5, 2), (20, 10), (200, 100)])
def test_picture_is_drawn(tmp_path, num_clients, classes):
    from matplotlib.image import imread

    path = tmp_path / "split.png"
    plot_split(split(num_clients, classes, 2000), path, "a split")
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.05  # not blank
    assert len(np.unique(pixels @ np.array([1.0, 2.0, 4.0, 0.0]))) > 50  # colours, not a line drawing


def test_the_same_split_gives_the_same_picture_and_leaves_pyplot_alone(tmp_path):
    clients = split(5, 3, 100)
    for name in ("a.png", "b.png"):
        plot_split(clients, tmp_path / name, "twice")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"^plot .*missing.*split\.png: cannot be written \("):
        plot_split([client([0])], tmp_path / "missing" / "split.png", "nowhere")
    with pytest.raises(InputError, match=r"^plot .*split\.xyz: cannot be written \("):
        plot_split([client([0])], tmp_path / "split.xyz", "no such format")


def test_without_matplotlib_the_fix_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError) as caught:
        plot_split([client([0])], tmp_path / "split.png", "none")
    assert str(caught.value) == "plot: matplotlib is not installed; pip install 'fedshard[plot]'"
