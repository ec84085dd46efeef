"""``fedshard ledger verify``: check what a run's council committed, offline."""

import argparse
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from consensus.ledger import Block, Checked, Genesis, read, verify
from fl.aggregation import arrays_digest
from fl.commands.run import find_run
from fl.council import SIMULATED, outcome
from fl.run.folder import read_manifest
from fl.run.summary import to_json
from shards.errors import FedshardError, InputError


def run(arguments: argparse.Namespace) -> int:
    """Check every block, signature and epoch against the genesis, and the run's model against the last block.

    Raises
    ------
    FedshardError
        Naming the first block that is not good and what is wrong with it.
    """
    path = find_run(arguments.run, arguments.runs_dir)
    genesis, blocks = Genesis.read(path), list(read(path))
    checked = verify(blocks, genesis)
    if checked.bad is not None:
        raise FedshardError(f"{path}: block {checked.bad} is not good: {checked.why}")
    unchecked = _check_against_run(path, blocks)
    if arguments.json:
        print(to_json({**_figures(genesis, checked), "unchecked": unchecked}))
    else:
        print(
            f"ok: {checked.blocks} blocks, {checked.signatures} signatures, {len(genesis.members)} replicas, "
            f"{genesis.protocol}, head {checked.head.hex()[:12]} ({SIMULATED})"
            + (f"; not checked: {unchecked}" if unchecked else "")
        )
    return 0


def _figures(genesis: Genesis, checked: Checked) -> dict[str, object]:
    return {
        "blocks": checked.blocks,
        "signatures": checked.signatures,
        "epochs": checked.epochs,
        "head": checked.head.hex(),
        "replicas": len(genesis.members),
        "protocol": genesis.protocol,
        "council": SIMULATED,
    }


def _check_against_run(path: Path, blocks: list[Block]) -> str:
    """Raise where the end of the chain is missing, or the run's model is not the one that it decided on last.

    Returns
    -------
    str
        What could not be checked; empty when all was.
    """
    if not (path / "run.json").exists():  # one of several councils of a run
        return "no run.json says how many blocks there should be"
    promised = (read_manifest(path).summary or {}).get("committed_blocks") or 0
    if promised > len(blocks):
        raise FedshardError(f"{path}: block {len(blocks) + 1} is missing: the run committed {promised} blocks")
    outcomes = [found for block in blocks for item in block.operations if (found := outcome.decode(item))]
    model = path / "model.safetensors"
    if not outcomes or not model.exists():
        return "there is no model.safetensors to compare with the last block"
    try:
        digest = arrays_digest(load_file(model))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{model}: cannot be read: {error}") from error
    if digest != outcomes[-1].aggregate:
        raise FedshardError(f"{path}: model.safetensors is not the model of block {len(blocks)}")
    return ""
