"""docs/complaints.md answers all thirty complaints, by tests and benchmarks that exist."""

import ast
import re

import pytest
from support import ROOT

TEXT = (ROOT / "docs/complaints.md").read_text(encoding="utf-8")
ROWS = {int(line.split("|")[1]): line.split("|") for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)}
VERDICTS = ("ruled out", "partly", "not yet")


def verdict(number):
    return ROWS[number][3].strip(" *")


def proofs(number):
    return re.findall(r"`([^`]+)`", ROWS[number][5])


def test_all_thirty_are_there_with_a_link_and_a_verdict():
    assert list(ROWS) == list(range(1, 31))
    for number, cells in ROWS.items():
        assert len(cells) == 7, number
        assert "](https://github.com/" in cells[2], number
        assert verdict(number) in VERDICTS, number


def test_the_counts_at_the_top_are_those_of_the_table():
    for word in VERDICTS:
        assert f"{sum(verdict(number) == word for number in ROWS)} {word}" in TEXT


@pytest.mark.parametrize("number", range(1, 31))
def test_what_is_named_exists_and_what_is_ruled_out_names_something(number):
    assert proofs(number) or verdict(number) == "not yet"
    for proof in proofs(number):
        if proof.startswith("python -m benchmarks."):
            assert (ROOT / f"{proof.removeprefix('python -m ').replace('.', '/')}.py").is_file(), proof
            continue
        file, _, name = proof.partition("::")
        functions = [
            node.name
            for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        ]
        assert name.startswith("test_"), proof
        assert name in functions, proof


def test_links_to_other_pages_lead_somewhere():
    for target in re.findall(r"\]\((?!https://)([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
