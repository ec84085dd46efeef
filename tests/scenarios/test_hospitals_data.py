"""Hospitals: what is missing is marked, whoever reads it, and no patient is on both sides of the split."""

import csv

import numpy as np
import pytest

from shards.errors import InputError


@pytest.fixture
def hospitals(scenario, folders):
    place = scenario("hospitals", folders["hospitals"])
    import hospitals_data

    return hospitals_data, place


def feature(module, rows, name):
    return rows.features[:, module.FEATURES.index(name)]


def test_every_patient_is_in_one_place_whatever_the_number_of_clients(hospitals):
    module, place = hospitals
    test = set(module.load_test(place).ids.tolist())
    for clients in (1, 3, 4):
        parts = [set(module.load(client, clients, place).ids.tolist()) for client in range(clients)]
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert not test & set().union(*parts)
    share = len(test) / (len(test) + len(module.load(0, 1, place)))
    assert share == pytest.approx(1 / 3, abs=0.08)


def test_another_seed_holds_out_other_patients(hospitals):
    module, place = hospitals
    other = type(place)(place.folder, 1, place.options)
    assert set(module.load_test(place).ids.tolist()) != set(module.load_test(other).ids.tolist())


def test_the_cholesterol_that_switzerland_recorded_as_zero_is_missing(hospitals):
    module, place = hospitals
    swiss = module.load(2, 4, place)
    assert set(swiss.keys["region"]) == {"switzerland"}
    assert (feature(module, swiss, "chol missing") == 1).all()
    assert (feature(module, swiss, "chol") == 0).all()  # the public middle, not a low cholesterol
    cleveland = module.load(0, 4, place)
    assert feature(module, cleveland, "chol missing").mean() < 0.3


def test_features_are_finite_and_labels_are_two_classes(hospitals):
    module, place = hospitals
    rows = module.load(0, 1, place)
    assert np.isfinite(rows.features).all()
    assert set(rows.labels.tolist()) == {0, 1}


def test_the_originals_without_header_give_the_same_records(scenario, stand_ins, tmp_path):
    place = scenario("hospitals", stand_ins["hospitals"])
    import hospitals_data

    for path in stand_ins["hospitals"].glob("heart_*.csv"):
        rows = list(csv.reader(path.open()))[1:]
        text = "\n".join(",".join(field or "?" for field in row) for row in rows)
        (tmp_path / f"processed.{path.stem.removeprefix('heart_')}.data").write_text(text)
    ours, originals = (hospitals_data.load(3, 4, type(place)(folder, 0)) for folder in (place.folder, tmp_path))
    assert ours.ids.tolist() == originals.ids.tolist()
    assert (ours.features == originals.features).all()
    assert (ours.labels == originals.labels).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("thal,num", "thal,nun", "heart_va.csv, line 1: no column 'num'; did you mean 'nun'?"),
        ("\n", "\nold,", "15, but line 1 names 14 columns"),
    ],
)
def test_a_damaged_file_is_one_line(scenario, tmp_path, old, new, message):
    import stand_in

    place = scenario("hospitals", stand_in.hospitals(tmp_path))
    import hospitals_data

    path = tmp_path / "heart_va.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError) as caught:
        hospitals_data.load(3, 4, place)
    assert message in str(caught.value)


def test_an_unknown_category_and_too_many_clients_are_one_line(scenario, tmp_path):
    import stand_in

    place = scenario("hospitals", stand_in.hospitals(tmp_path))
    import hospitals_data

    with pytest.raises(InputError, match="at most 4 clients"):
        hospitals_data.load(0, 5, place)
    path = tmp_path / "heart_va.csv"
    lines = path.read_text().splitlines()
    fields = lines[3].split(",")
    fields[2] = "9"
    path.write_text("\n".join([*lines[:3], ",".join(fields), *lines[4:]]))
    with pytest.raises(InputError, match="column 'cp': record 3 has 9; expected one of 1, 2, 3, 4, or a gap"):
        hospitals_data.load(3, 4, place)
