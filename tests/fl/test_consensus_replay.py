import json

import pytest

from fl.cli import main


def test_a_recorded_run_runs_again_to_the_same_bits_and_a_changed_trace_is_noticed(tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    assert main(["consensus", "replay", str(trace), "--seed", "3", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["same"]
    assert first["events"] > 100
    assert first["violations"] == []
    lines = trace.read_bytes().splitlines(keepends=True)
    lines[50] = lines[50].replace(b'"at":', b'"at":1')
    trace.write_bytes(b"".join(lines))
    assert main(["consensus", "replay", str(trace), "--json"]) == 1
    assert "event 50 was" in json.loads(capsys.readouterr().out)["difference"]


@pytest.mark.parametrize("content", [None, b"", b"root:x:0:0\n"])
def test_a_file_that_is_no_trace_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert main(["consensus", "replay", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1
