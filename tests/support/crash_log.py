"""Writes one log and is killed at every call that changes files, one after the other (a program of its own).

Run with `crash_point.c` preloaded: ``crash_log.py FOLDER ENDING COMMITS`` prints a line of JSON: how many points,
how many runs broke the promise, and the first of them. See `tests/consensus/test_log.py`.
"""

import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import consensus.log
from consensus.log import Log

consensus.log.CHECKPOINT_PAGES = 8  # so that the reference run folds its side file many times


def script(length):
    """Return the commits of the reference run: records to append, and numbers up to which to forget."""
    coins = random.Random(4)
    commits = []
    for number in range(1, length + 1):
        records = [(number, coins.randbytes(coins.choice((0, 20, 300, 5000)))) for _ in range(coins.randint(1, 4))]
        commits.append((records, number - 6 if number % 5 == 0 else None))
    return commits


def states(commits):
    """Return what the log must hold after each number of commits."""
    held, after = [], [[]]
    for records, forgotten in commits:
        held = [pair for pair in held + records if forgotten is None or pair[0] > forgotten]
        after.append([record for _, record in held])
    return after


def write(path, commits, acknowledged):
    with Log(path) as log:
        for number, (records, forgotten) in enumerate(commits, 1):
            with log.transaction():
                log.append(records)
                if forgotten is not None:
                    log.forget(forgotten)
            acknowledged[0] = number


def main(folder, ending, length):
    shim, commits = ctypes.CDLL(None), script(length)
    expected, acknowledged = states(commits), mmap.mmap(-1, 1)
    points, broken = 0, []
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = folder / "log.sqlite"
        acknowledged[0] = 0
        child = os.fork()
        if child == 0:
            shim.crash_arm(ctypes.c_long(points), ending)
            write(path, commits, acknowledged)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        with Log(path) as log:
            found = log.records()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert found == expected[-1]
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        if log.dropped or found not in expected[acknowledged[0] : acknowledged[0] + 2]:
            broken.append({"point": points, "acknowledged": acknowledged[0], "found": len(found)})
        points += 1
    print(json.dumps({"points": points, "broken": len(broken), "first": broken[:1]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
