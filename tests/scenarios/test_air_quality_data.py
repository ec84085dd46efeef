"""Air quality: an hour knows the past alone, its label is the next hour, and nobody trains on the test period."""

import numpy as np
import pytest

from fl.settings import Settings
from shards.errors import InputError


@pytest.fixture
def air(scenario):
    def prepare(folder, **user):
        place = scenario("air-quality", folder, **{"test_from": "2013-04-13", "test_days": 14, **user})
        import air_quality_data

        return air_quality_data, place

    return prepare


HEADER = "year,month,day,hour,PM2.5,PM10,SO2,NO2,CO,O3,TEMP,PRES,DEWP,RAIN,wd,WSPM,station"


def station(folder, values, name="Here"):
    lines = [HEADER]
    for hour, pm in enumerate(values):
        lines.append(f"2013,3,{1 + hour // 24},{hour % 24},{pm},100,NA,50,1200,60,13,1010,2,0,E,2,{name}")
    (folder / f"{name}.csv").write_text("\n".join(lines))


def test_an_hour_knows_the_hours_before_and_is_labelled_by_the_next(air, tmp_path):
    station(tmp_path, [100, 110, "NA", 140, 150, 130])
    module, place = air(tmp_path)
    rows = module.load(0, 1, place)
    assert rows.keys["time"].astype("datetime64[h]").astype(str).tolist() == [
        *("2013-03-01T00", "2013-03-01T03", "2013-03-01T04"),
    ]
    assert rows.labels.tolist() == [110, 150, 130]  # hours 1 and 2 have no next hour, or no PM2.5
    column = dict(zip(module.FEATURES, rows.features.T, strict=True))
    assert column["PM2.5"].tolist() == pytest.approx([1.0, 1.4, 1.5])
    assert column["PM2.5 1 h before"].tolist() == pytest.approx([0, 0, -0.1])  # unknown, unknown, 140 - 150
    assert column["PM2.5 3 h before"].tolist() == pytest.approx([0, -0.4, -0.4])
    assert column["SO2 missing"].tolist() == [1, 1, 1]
    assert column["SO2"].tolist() == [0, 0, 0]
    assert column["PM10"].tolist() == [0, 0, 0]
    assert column["wind north"].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert column["wind east"].tolist() == pytest.approx([1, 1, 1])
    assert column["hour cos"].tolist() == pytest.approx([1, np.sqrt(0.5), 0.5])


def test_lines_in_any_order_give_the_same_records(air, tmp_path):
    (tmp_path / "sorted").mkdir()
    (tmp_path / "shuffled").mkdir()
    station(tmp_path / "sorted", [100, 110, 120, 140, 150, 130])
    lines = (tmp_path / "sorted" / "Here.csv").read_text().splitlines()
    (tmp_path / "shuffled" / "Here.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    module, place = air(tmp_path / "sorted")
    one, other = module.load(0, 1, place), module.load(0, 1, type(place)(tmp_path / "shuffled", 0, place.options))
    assert (one.features == other.features).all()
    assert one.ids.tolist() == other.ids.tolist()


def test_no_client_trains_on_the_test_period_and_ids_are_apart(air, folders):
    module, place = air(folders["air-quality"])
    start = np.datetime64("2013-04-13")
    clients = [module.load(client, 3, place) for client in range(3)]
    test = module.load_test(place)
    for rows in clients:
        assert (rows.keys["time"] + np.timedelta64(1, "h") < start).all()  # not even their labels
    assert (test.keys["time"] >= start).all()
    assert (test.keys["time"] < start + np.timedelta64(14, "D")).all()
    everyone = np.concatenate([test.ids, *(rows.ids for rows in clients)])
    assert len(np.unique(everyone)) == len(everyone)


def test_rounds_read_windows_that_follow_each_other_and_use_every_hour_once(air, folders):
    config = {
        **{"model": "m:build", "data": "d", "num-server-rounds": 3, "train-request": "last 14d"},
        **{"clock-start": "2013-03-01", "clock-step": "14d"},
    }
    schedule = Settings.read(config).schedule()
    module, place = air(folders["air-quality"])
    rows = module.load(0, 3, place)
    read = [schedule.at(number).mask(rows.table()) for number in (1, 2, 3)]
    assert all(mask.any() for mask in read)
    assert (np.sum(read, axis=0) <= 1).all()
    assert (np.sum(read, axis=0) == 1)[rows.keys["time"] < np.datetime64("2013-04-12")].all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2013,13,1,0,1,1,1,1,1,1,1,1,1,0,N,1,Here", "line 3: year, month, day, hour are no time"),
        ("2013,3,1,0,1,1,1,1,1,1,1,1,1,0,N,1,Here", "line 3: the same hour as line 2"),
        ("2013,3,1,1,high,1,1,1,1,1,1,1,1,0,N,1,Here", "Here.csv, line 3, column 'PM2.5': 'high' is not a number"),
    ],
)
def test_a_bad_line_is_named(air, tmp_path, line, message):
    station(tmp_path, [100])
    with (tmp_path / "Here.csv").open("a") as file:
        file.write("\n" + line)
    module, place = air(tmp_path)
    with pytest.raises(InputError) as caught:
        module.load(0, 1, place)
    assert message in str(caught.value)


def test_a_test_period_that_cannot_be_is_one_line(air, folders):
    module, place = air(folders["air-quality"], test_from="next year")
    with pytest.raises(InputError, match="next year"):
        module.load_test(place)
