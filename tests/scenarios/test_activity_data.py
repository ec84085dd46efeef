"""Activity: people are apart, features of signals are what they are called, and both forms of the data agree."""

import csv

import numpy as np
import pytest
from stand_in import REAL

from fl.loader import read_columns
from shards.errors import InputError

OFFICIAL = {2, 4, 9, 10, 12, 13, 18, 20, 24}


@pytest.fixture
def activity(scenario, folders):
    place = scenario("activity", folders["activity"])
    import activity_data

    return activity_data, place


def test_the_nine_official_people_test_and_the_others_are_a_client_each(activity):
    module, place = activity
    assert set(module.load_test(place).keys["user"].tolist()) == OFFICIAL
    people = [set(module.load(client, 21, place).keys["user"].tolist()) for client in range(21)]
    assert all(len(person) == 1 for person in people)
    assert set().union(*people) == set(range(1, 31)) - OFFICIAL


def test_fewer_clients_share_all_the_people(activity):
    module, place = activity
    whole = module.load(0, 1, place).ids.tolist()
    shares = [module.load(client, 4, place).ids.tolist() for client in range(4)]
    assert sorted(number for share in shares for number in share) == sorted(whole)


def test_features_are_bounded_and_the_six_activities_are_the_classes(activity):
    module, place = activity
    rows = module.load(0, 1, place)
    assert np.abs(rows.features).max() <= module.RANGE
    assert set(rows.labels.tolist()) == set(range(6))
    assert [module.ACTIVITIES[label] for label in rows.labels[:50]] == rows.keys["class"][:50].tolist()


def test_features_of_a_known_window_are_what_their_names_say(scenario, tmp_path):
    scenario("activity", tmp_path)
    import activity_signals

    time = np.arange(128) / 50
    window = np.zeros((128, 9))
    window[:, 0] = 1 + 0.5 * np.sin(2 * np.pi * 6.25 * time)  # 16 whole waves
    window[:, 1] = 0.25 * np.sin(2 * np.pi * 6.25 * time)
    window[:, 6] = 2.0
    found = dict(zip(activity_signals.FEATURES, activity_signals.window_features(window[None])[0], strict=True))
    assert found["total_acc_x_mean"] == pytest.approx(1.0)
    assert found["total_acc_x_std"] == pytest.approx(0.5 / np.sqrt(2))
    assert found["total_acc_x_max"] == pytest.approx(1.5)
    assert found["total_acc_x_mad"] == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    assert found["gyro_mag_mean"] == pytest.approx(2.0)
    assert found["gyro_mag_std"] == 0.0
    assert found["corr_xy"] == pytest.approx(1.0)
    assert found["corr_xz"] == 0.0  # z stands still
    assert found["acc_peak_hz"] == pytest.approx(6.25)


def test_signals_and_features_computed_before_give_the_same_records(scenario, stand_ins, tmp_path):
    place = scenario("activity", stand_ins["activity"])
    import activity_data
    import activity_signals

    features, subjects, labels = activity_signals.read_signals(stand_ins["activity"])
    with (tmp_path / "uci_har_features.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", *activity_signals.FEATURES, "label"])
        writer.writerows(
            [s, *map(repr, map(float, f)), name] for s, f, name in zip(subjects, features, labels, strict=True)
        )
    one, other = (
        activity_data.load(5, 21, type(place)(folder, 0, place.options)) for folder in (place.folder, tmp_path)
    )
    assert one.ids.tolist() == other.ids.tolist()
    assert (one.features == other.features).all()
    assert (one.labels == other.labels).all()


def test_real_signals_give_the_real_features(scenario):
    folder = REAL["activity"]
    if not folder.is_dir():
        pytest.skip("no ../shared/data here: only the stand-in was tested")
    scenario("activity", folder)
    import activity_signals

    stored = np.load(folder / "uci_har_signals.npz")
    walks = (stored["subject"] == 1) & (stored["activity"] == stored["activity_names"].tolist().index("WALKING"))
    raw = stored["signals"][walks] / stored["scale"].astype(np.float64)
    count = (len(raw) - 128) // 64 + 1  # windows overlap by half
    six = np.stack([raw[64 * number : 64 * number + 128] for number in range(count)])
    windows = np.concatenate([six[:, :, :3], np.zeros_like(six[:, :, :3]), six[:, :, 3:]], axis=2)
    columns = read_columns(folder / "uci_har_features.csv.gz", ("subject", *activity_signals.FEATURES), ("label",))
    same = (columns["subject"] == 1) & (columns["label"] == "WALKING")
    found = activity_signals.window_features(windows)
    for place, name in enumerate(activity_signals.FEATURES):
        if not name.startswith("body_acc"):  # filtered in the original: not among these signals
            assert found[:, place] == pytest.approx(columns[name][same], abs=0.01), name


@pytest.mark.parametrize("people", ["", "2; 4", "two", "31", ", ".join(map(str, range(1, 31)))])
def test_a_list_of_test_people_that_cannot_be_is_one_line(scenario, stand_ins, people):
    place = scenario("activity", stand_ins["activity"], test_people=people)
    import activity_data

    with pytest.raises(InputError, match=r"user\.test-people = .*: give some of the people 1 to 30"):
        activity_data.load_test(place)


def test_files_of_different_length_are_one_line(scenario, tmp_path):
    import stand_in

    place = scenario("activity", stand_in.signals(tmp_path, windows=2))
    import activity_data

    (tmp_path / "y_test.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match="the test files have 18 windows, 18 subjects and 2 labels"):
        activity_data.load(0, 21, place)
