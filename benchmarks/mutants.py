"""How much the tests notice: mutants of the quorum, view-change and log modules: ``python -m benchmarks.mutants``.

A mutant is one file with one change: a comparison, an operator, a constant, a condition negated, a return of None, a
statement left out. A random sample of all that are possible is run, each in a copy of the repository, against the
quick tests that cover its file. It is killed if a test fails or the tests hang (these are counted apart); what
survives is listed with its line.
"""

import argparse
import ast
import copy
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.measure import ROOT, machine
from benchmarks.report import Bar, save, setting, table
from benchmarks.seeds import commit

SAMPLE, SEED, LIMIT_S = 300, 1, 180
PBFT = ["tests/consensus/pbft/test_views.py", "tests/consensus/pbft/test_view_change.py"]
COVERING = {
    "consensus/quorum.py": ["tests/consensus/test_quorum.py"],
    "consensus/log.py": ["tests/consensus/test_log.py", "-k", "not crash_at"],  # crashes take a minute
    "consensus/pbft/votes.py": ["tests/consensus/pbft/test_votes.py"],
    "consensus/pbft/view_change.py": ["tests/consensus/pbft/test_view_change.py"],
    "consensus/pbft/views.py": [*PBFT, "tests/consensus/pbft/test_recovery.py"],
}
"""The files that are changed, and the tests that are run first; `LATER` only if these notice nothing."""
LATER = [
    *PBFT,
    "tests/consensus/pbft/test_normal_case.py",
    "tests/consensus/pbft/test_recovery.py",
    "tests/consensus/faults/test_public_bugs.py",
]

KINDS = (("killed", "hung", "survived"), ("killed",), ("hung",), ("survived",))

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield what can be done to a node: a word for it, and a function that changes a copy of the node in place."""
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                new = COMPARISONS[type(operator)]
                yield f"{_name(operator)} -> {new.__name__}", lambda n, i=index, new=new: n.ops.__setitem__(i, new())
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            new_op = OPERATORS[type(node.op)]
            yield f"{_name(node.op)} -> {new_op.__name__}", lambda n: setattr(n, "op", new_op())
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"{_name(node.op)} -> {other.__name__}", lambda n: setattr(n, "op", other())
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", lambda n: setattr(n, "value", not value)
        case ast.Constant(value=int() as value):
            yield f"{value} -> {value + 1}", lambda n: setattr(n, "value", value + 1)
        case ast.If() | ast.While() | ast.IfExp():
            yield "condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        case ast.Return(value=ast.expr()):
            yield "returns None", lambda n: setattr(n, "value", ast.Constant(None))
    body = getattr(node, "body", None)
    if isinstance(body, list) and not isinstance(node, ast.Module | ast.ClassDef):
        for index, statement in enumerate(body):
            if isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign) and not _is_docstring(statement):
                yield f"left out: {ast.unparse(statement)[:60]}", lambda n, i=index: n.body.__setitem__(i, ast.Pass())


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def mutants(path: str) -> list[tuple[str, int, str, str]]:
    """List all mutants of a file: the path, the line, what is done, and the changed source."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = []
    for index, node in enumerate(ast.walk(tree)):
        for number, (what, _) in enumerate(changes(node)):
            changed = copy.deepcopy(tree)
            target = next(other for at, other in enumerate(ast.walk(changed)) if at == index)
            list(changes(target))[number][1](target)
            line = getattr(node, "lineno", 0)
            found.append((path, line, what, ast.unparse(ast.fix_missing_locations(changed)) + "\n"))
    return found


def verdict(tree: Path, tests: list[str]) -> str:
    """Run tests in a copy of the repository: ``survived``, ``killed`` or ``hung``."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "hung"
    return "killed" if done.returncode else "survived"


def main() -> int:
    """Go on with the sample, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="file that holds what is done; resumable")
    parser.add_argument("--report", action="store_true", help="only write the results of what is done")
    options = parser.parse_args()
    everything = [mutant for path in COVERING for mutant in mutants(path)]
    sample = Random(SEED).sample(everything, SAMPLE)
    done: list[dict[str, Any]] = json.loads(options.state.read_text()) if options.state.exists() else []
    if not options.report:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            tree = Path(folder) / "tree"
            subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(tree)], check=True)
            shutil.copytree(ROOT / "consensus", tree / "consensus", dirs_exist_ok=True)
            for path, tests in COVERING.items():
                if verdict(tree, tests) != "survived":
                    sys.exit(f"{path}: its tests fail without any change: {' '.join(tests)}")
            for path, line, what, source in sample[len(done) :]:
                original = (tree / path).read_text(encoding="utf-8")
                (tree / path).write_text(source, encoding="utf-8")
                found = verdict(tree, COVERING[path])
                if found == "survived" and path != "consensus/log.py":  # nothing else there uses the log
                    found = verdict(tree, LATER)
                (tree / path).write_text(original, encoding="utf-8")
                done.append({"path": path, "line": line, "what": what, "verdict": found})
                options.state.write_text(json.dumps(done, indent=1))
                print(done[-1], flush=True)
    return report(done, len(everything), f"python -m benchmarks.mutants --state {options.state.name}")


def report(done: list[dict[str, Any]], possible: int, command: str) -> int:
    """Write the results; 0 if the bars are met."""
    here = machine(["pytest", "hypothesis"])
    killed = sum(one["verdict"] != "survived" for one in done)
    rows = []
    for path in COVERING:
        of = [one for one in done if one["path"] == path]
        rows.append([path, *(str(sum(one["verdict"] in kinds for one in of)) for kinds in KINDS)])
    bars = [
        Bar("mutants run", len(done), SAMPLE),
        Bar("killed, %", 100 * killed / max(1, len(done)), 85),
    ]
    alive = [f"- {one['path']}:{one['line']}: {one['what']}" for one in done if one["verdict"] == "survived"]
    text = "\n\n".join(
        [
            "# Mutants",
            f"{len(done)} of a random sample of {SAMPLE} out of {possible} one-change mutants (seed {SEED}), each "
            "against the quick tests that cover its file.",
            setting(command, here),
            f"Code: commit {commit()}.",
            table(["file", "mutants", "killed", "hung", "survived"], rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            "Survivors:\n\n" + ("\n".join(alive) or "none."),
        ]
    )
    save("mutants", {"command": command, **here, "mutants": done, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
