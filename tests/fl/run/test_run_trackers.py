"""Trackers: found or refused in one line, fed, and dropped when they raise; none of them loses a run."""

import sys
import threading

import pytest
from support import DIGITS

from fl.cli import main
from fl.engine import BatchEvent, RoundEvent
from fl.run.trackers import Tracker, find_tracker
from shards.errors import InputError

SMALL = ("-c", "num-server-rounds=2", "--clients", "4", "--workers", "0")
BATCH = BatchEvent("train", 1, 4, 4, 0, 0.5)


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def write(tmp_path, name, code):
    (tmp_path / f"{name}.py").write_text(code)
    return f"{name}:Mine"


RAISING = """
class Mine:
    def __init__(self, folder): (folder / "made").touch()
    def on_batch(self, event): pass
    def on_round(self, event): raise OSError("the tracking server is gone\\nand more")
"""


def test_a_tracker_that_raises_is_dropped_with_one_line_and_the_run_ends_well(tmp_path, capsys):
    named = write(tmp_path, "raising_tracker", RAISING)
    assert main(["run", str(DIGITS), *SMALL, "--track", named]) == 0
    out = capsys.readouterr().out
    (warning,) = [line for line in out.splitlines() if "--track" in line]
    assert warning == (
        "--track raising_tracker:Mine: dropped, the run goes on without it: "
        "OSError: the tracking server is gone (raising_tracker.py:5)"
    )
    assert "done: 2 rounds" in out
    assert list(tmp_path.glob("runs/*/made")), "it was made from the run's folder"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("tensorbord", "", "did you mean 'tensorboard'"),
        ("a:", "", "module:ClassName"),
        ("no_such_module_here:Mine", "", "cannot import no_such_module_here: ModuleNotFoundError"),
        ("broken_tracker:Mine", "1 / 0", "cannot import broken_tracker: ZeroDivisionError"),
        ("other_tracker:Mine", "class Mein: pass", "has no class 'Mine'; did you mean 'Mein'"),
    ],
)
def test_a_tracker_that_cannot_be_found_is_refused_before_the_run_exists(tmp_path, capsys, name, code, said):
    (tmp_path / f"{name.partition(':')[0]}.py").write_text(code) if code else None
    assert main(["run", str(DIGITS), *SMALL, "--track", name]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_tracker_is_made_once_by_the_first_event_and_events_come_one_at_a_time(tmp_path):
    made, inside, most = [], [], []

    class Slow:
        def __init__(self, folder):
            made.append(folder)

        def on_batch(self, event):
            inside.append(event)
            most.append(len(inside))
            threading.Event().wait(0.002)
            inside.pop()

    tracker = Tracker("slow", Slow, tmp_path, pytest.fail)
    assert made == []
    threads = [threading.Thread(target=tracker.on_batch, args=(BATCH,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [tmp_path]
    assert most == [1] * 8


def test_a_tracker_that_cannot_be_made_is_dropped_once(tmp_path):
    said = []

    def make(folder):
        raise ValueError("no token")

    tracker = Tracker("mine", make, tmp_path, said.append)
    tracker.on_batch(BATCH)
    tracker.on_round(RoundEvent(1, 1, {}))
    assert len(said) == 1
    assert "ValueError: no token" in said[0]


def test_tensorboard_reads_back_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(["run", str(DIGITS), *SMALL, "-c", "privacy=off", "--track", "tensorboard", "--json"]) == 0
    (folder,) = tmp_path.glob("runs/*/tensorboard")
    found = EventAccumulator(str(folder)).Reload()
    tags = found.Tags()
    assert {"test/accuracy", "test/loss", "client/accuracy", "seconds/train", "failed/evaluate"} <= set(
        tags["scalars"]
    )
    assert tags["histograms"] == ["clients/train loss", "clients/evaluate accuracy", "clients/evaluate loss"]
    assert [event.step for event in found.Scalars("test/accuracy")] == [1, 2]
    assert all(0 < event.value <= 1 for event in found.Scalars("test/accuracy"))


def test_without_tensorboard_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delitem(sys.modules, "fl.run.tensorboard", raising=False)
    with pytest.raises(InputError, match=r"pip install 'fedshard\[tensorboard\]'"):
        find_tracker("tensorboard")
