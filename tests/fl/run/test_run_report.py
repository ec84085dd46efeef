"""The page: complete, self-contained, honest about what it lacks, and small for a large run."""

import json
import re
import time
from html.parser import HTMLParser

import pytest
from support import ADAM, DIGITS

from fl.cli import main
from fl.run.report import Report

SMALL = ("-c", "num-server-rounds=2", "--clients", "4", "--workers", "0")
ADDRESSES = ("src", "href", "xlink:href", "data", "action")
OTHERS = "What clients read"


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Page(HTMLParser):
    """Section headings, chart titles, and every address the page refers to; fails on tags left open."""

    def __init__(self, text):
        super().__init__()
        self.text, self.sections, self.charts, self.addresses, self.open = text, [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")
        ]
        if tag not in ("meta", "img", "path", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.sections.append(data)
        if self.open[-2:] == ["figcaption", "h3"]:
            self.charts.append(data)


def page(path, public=False):
    out = path / "page.html"
    Report.load(path, public).write(out)
    return Page(out.read_text(encoding="utf-8"))


def test_a_full_run_has_every_section_and_chart(made_run):
    found = page(made_run(reads=True))
    assert found.sections == ["Learning", "What clients reported", "Time", OTHERS, "Facts"]
    assert found.charts == [
        *("Accuracy", "Loss"),
        *("Accuracy (evaluate), over clients", "Accuracy (evaluate), by client"),
        *("Loss (evaluate), over clients", "Loss (evaluate), by client"),
        *("Loss (training), over clients", "Loss (training), by client"),
        "Seconds per round",
        *("Bytes read, all clients", "Bytes read, by client", "Shards per client", "Decisions"),
    ]
    assert "round 1\nread: 12 kB\nmatching the request: 2.7 kB" in found.text
    assert "round 1\nkeep: 0\n" not in found.text
    assert "round 1\nrecut: 3" in found.text
    assert "round 2\nkeep: 3" in found.text
    assert "round 2\ntrain: 1.5 s\nevaluate: 0.25 s\nserver: 0.25 s" in found.text


def test_the_page_needs_nothing_from_anywhere(made_run):
    found = page(made_run(reads=True))
    assert all(address.startswith("data:image/png") for address in found.addresses)
    assert not re.search(r"https?:|@import|url\(|<script|<link", found.text)
    assert "default-src 'none'" in found.text


def test_public_pages_hold_nothing_from_the_private_folder(made_run):
    path = made_run(reads=True)
    assert "Do not share it" in page(path).text
    found = page(path, public=True)
    assert OTHERS not in found.sections
    assert "Bytes read" not in found.text
    assert "reads" not in Report.load(path, public=True).figures()


def test_what_a_run_lacks_is_said_in_a_sentence_and_not_drawn(made_run):
    path = made_run()
    (path / "metrics.jsonl").unlink()
    found = page(path)
    assert found.charts == []
    for sentence in (
        "No round was finished",
        "reported no figures of their own",
        "No exchange with clients was logged",
        "read no shard store",
    ):
        assert sentence in found.text


def test_a_private_run_shows_the_worst_epsilon_and_says_why_no_client_reports(tmp_path, capsys):
    assert main(["run", str(DIGITS), *SMALL]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert main(["report", path.name]) == 0
    assert capsys.readouterr().out.endswith(" kB)\n")
    found = Page((path / "report.html").read_text(encoding="utf-8"))
    assert "Privacy spent, ε" in found.charts
    assert "budget: 8" in found.text
    assert "known to each client's own ledger only" in found.text.replace("&#x27;", "'")
    assert "would leak what the noise hides" in found.text
    assert "whoever has the seed can remove the noise" in found.text


def test_a_foreign_apps_report_comes_from_what_it_says(tmp_path, capsys):
    assert main(["run", str(ADAM), "--clients", "6", "--workers", "0", "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    assert main(["report", run_id, "--json", "--out", "mine.html"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["page"] == "mine.html"
    assert figures["bytes"] == (tmp_path / "mine.html").stat().st_size
    assert list(figures["rounds"]) == ["1", "2", "3", "4", "5"]
    assert set(figures["clients"]["evaluate eval_acc"]) <= {"0", "1", "2", "3", "4", "5"}
    assert {"train", "evaluate"} <= set(figures["seconds"])


def test_failures_are_counted_and_the_first_of_each_exchange_is_listed(made_run):
    path = made_run(status="failed", error="it <b>broke</b>")
    lost = {"kind": "exchange", "time": 1.0, "seconds": 1.0, "message_type": "train", "server_round": 5}
    with (path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({**lost, "sent": 3, "failed": 2, "error": "client 1: ValueError: <i>"}) + "\n")
    found = page(path)
    assert "Messages without a usable reply" in found.charts
    assert "round 5\nfailed: 2" in found.text
    assert "client 1: ValueError: &lt;i&gt;" in found.text
    assert "it &lt;b&gt;broke&lt;/b&gt;" in found.text


def test_a_clients_figures_that_are_never_finite_do_not_break_the_page(made_run):
    path = made_run()
    told = {str(client): {"drift": float("nan")} for client in range(3)}
    lost = {"kind": "exchange", "time": 1.0, "seconds": 1.0, "message_type": "train", "server_round": 1}
    with (path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({**lost, "clients": told}) + "\n")
    found = page(path)
    assert "Drift (training), by client" in found.charts


def test_a_log_that_lost_its_oldest_reads_says_where_it_begins(made_run):
    path = made_run(reads=True)
    log = path / "private/access.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[3:]))
    assert "it begins with round 2" in page(path).text


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["made-up", "--out", "no/such/folder.html"], ["made-up", "--out", "runs"]]
)
def test_what_cannot_be_reported_or_written_ends_in_one_line(made_run, capsys, arguments):
    made_run()
    assert main(["report", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_damaged_private_log_is_named_in_one_line_and_public_works_without_it(made_run, capsys):
    path = made_run(reads=True)
    (path / "private/access.jsonl").write_text('{"client": 1}\n')
    assert main(["report", "made-up"]) == 2
    assert "access.jsonl: line 1 is damaged" in capsys.readouterr().err
    assert main(["report", "made-up", "--public"]) == 0
    assert (path / "report-public.html").exists()


def test_a_thousand_clients_and_a_hundred_rounds_make_a_small_page_quickly(made_run):
    path = made_run(clients=1000, rounds=100)
    began = time.monotonic()
    found = page(path)
    assert time.monotonic() - began < 15
    assert len(found.text.encode()) < 3_000_000
    assert "Each row is the mean of 4 neighbours" in found.text


def test_metrics_by_group_of_the_test_set_are_one_map_each(made_run):
    path = made_run(config={"privacy": "off", "test-by": "region"})
    with (path / "metrics.jsonl").open("a") as log:
        for number in (1, 2):
            metrics = {"test_rmse": 2.0, "test_rmse/north": 1.0 + number, "test_rmse/west": 9.0}
            log.write(json.dumps({"kind": "round", "time": 2e3, "server_round": number, **metrics}) + "\n")
    found = page(path)
    assert "rmse by region" in found.charts
    assert not [title for title in found.charts if "/" in title]
    assert "lowest region north (3), highest region west (9)" in found.text


def test_the_figures_of_a_run_with_private_logs_are_plain_json(made_run, capsys):
    path = made_run(reads=True)
    assert main(["report", str(path), "--json"]) == 0
    reads = json.loads(capsys.readouterr().out)["reads"]
    assert set(reads) == {"read", "matching", "by_client", "shards", "decisions", "outside"}
    assert reads["read"]["1"] > 0
    assert reads["by_client"]["0"]["1"] > 0
