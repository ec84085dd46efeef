"""Consensus protocols on measured round trips: ``python -m benchmarks.consensus [--data DIR] [--quick]``.

Every figure names file, placement, regions and leader. Replicas, votes and payloads are real, time is simulated with
the measured costs of `consensus.simulation.costs`.
"""

import argparse
import gc
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from consensus import formulas
from consensus.bench import IN_FLIGHT, PROTOCOLS, Case, Figures, measure, vectorised
from consensus.quorum import Threshold
from consensus.simulation import vectorised as arrays
from consensus.simulation.costs import FREE
from consensus.simulation.latency import network

AWS = ("commonware-estimator", "p50.json")
TEN = (
    "us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1", "ap-southeast-1", "ap-southeast-2",
    "sa-east-1", "ap-south-1", "ca-central-1",
)  # fmt: skip
NETWORK = "commonware p50, 10 AWS regions"
MEGA, GIGABIT, HUNDRED = 10**6, 1e9, 1e8
COMPARED: tuple[tuple[str, Any], ...] = (
    ("regional", "sites"), ("regional", "auto"), ("regional-fast", "sites"), ("two-layer", "sites"), ("star", "auto"),
)  # fmt: skip
SHOWN = ["regional, sites", "regional, auto", "regional-fast, sites", "two-layer, sites", "star"]
Part = tuple[str, list[Bar], list[dict[str, Any]]]


def main() -> int:
    """Measure everything, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("..") / "shared" / "data" / "latency")
    arguments = parser.parse_args()
    here = machine(["fedshard", "numpy", "msgspec"])
    ten = network(str(arguments.data.joinpath(*AWS))).select(TEN)
    base = Case("flat", 100, ten, NETWORK, regions="sites", rounds=1)
    parts: list[str] = []
    bars: list[Bar] = []
    results: dict[str, Any] = {}
    for name, part in (
        ("messages", lambda: messages(base)),
        ("payloads", lambda: payloads(base)),
        ("idle", lambda: idle(base)),
        ("leaders", lambda: leaders(base)),
        ("saturation", lambda: saturation(base)),
        ("networks", lambda: networks(base, arguments.data)),
        ("simulator", lambda: simulator(base)),
    ):
        began = time.perf_counter()
        text, passed, rows = part()
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        parts.append(text)
        bars.extend(passed)
        results[name] = rows
    command = "python -m benchmarks.consensus"
    text = "\n\n".join(
        [
            "# Consensus protocols on measured round trips",
            f"Network, unless another is named: `{'/'.join(AWS)}`, medians, no jitter, replicas placed evenly on ten "
            f"AWS regions ({', '.join(TEN)}). Regions: the sites, k = 10, unless `auto` is named (k = 4). Leader: "
            "the replica whose round trip to its q-th nearest is least, the same for all protocols. The client is "
            "beside the leader and waits for one reply more than may be false. Up- and downlinks are limited. All "
            "but flat sign with BLS from n = 40 on; below, and in flat, with Ed25519. Processors: `server` profile.",
            setting(command, here),
            "## Bars\n\n" + table(["claim", "measured", "bar", ""], [bar.row() for bar in bars]),
            *parts,
        ]
    )
    save("consensus", {"command": command, **here, "bars": [bar.as_dict() for bar in bars], **results}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def messages(base: Case) -> Part:
    """Count the vote path against the formulas, n from 4 to 400."""
    rows, records = [], []
    for n in (4, 7, 10, 16, 31, 64, 100, 200, 400):
        flat = measure(replace(base, n=n))
        records.append(_counted(flat))
        line = [str(n), f"{flat.messages['vote']:,.0f}"]
        for protocol, regions in (*COMPARED, ("regional-fast", "auto"), ("two-layer", "auto")):
            one = measure(replace(base, protocol=protocol, n=n, regions=regions))
            fewer = 1 - one.messages["vote"] / flat.messages["vote"]
            fewer_bytes = 1 - one.bytes["vote"] / flat.bytes["vote"]
            records.append({**_counted(one), "asked": regions, "fewer": fewer, "fewer_bytes": fewer_bytes})
            line.append(f"{one.messages['vote']:,.0f} ({0 - fewer:+.1%})")
        rows.append(line[:7])
    wrong = sum(one["vote"] != one["formula"] or one["backup"] > 0 for one in records)
    regional = [one for one in records if one["protocol"] == "regional" and one["n"] >= 31]
    automatic = [one for one in regional if one["asked"] == "auto"]
    bars = [
        Bar(
            f"{len(records)} cells, n from 4 to 400: vote messages differ from the formula", wrong, 0, at_least=False
        ),
        Bar("regional, auto, n ≥ 31: fewer vote messages than flat, least", min(o["fewer"] for o in automatic), 0.9),
        Bar(
            "regional with BLS (n ≥ 64), auto and sites: fewer vote bytes than flat, least",
            min(o["fewer_bytes"] for o in regional if o["n"] >= 64),
            0.8,
        ),
    ]
    return "## Messages of the vote path per decision\n\n" + table(["n", "flat", *SHOWN], rows), bars, records


def payloads(base: Case) -> Part:
    """Compare with flat as published where payloads are large, and split the gain."""
    rows, records, bars = [], [], []
    for n, link in ((200, GIGABIT), (100, HUNDRED)):
        here = replace(base, n=n, link=link, payload=MEGA)
        name = f"1 MB, n = {n}, {link / 1e6:g} Mbit/s"
        published, chunked = measure(replace(here, chunks=False)), measure(here)
        others = [measure(replace(here, protocol=protocol)) for protocol in PROTOCOLS[2:]]
        for one in (published, chunked, *others):
            sent = f"{sum(one.bytes.values()) / 1e6:,.0f}"
            rows.append([name, one.case.name, str(one.bound), *_gain(one, published, chunked), sent])
            records.append(_record(one))
        lower = float(1 - others[0].client.mean() / published.client.mean())
        bars.append(Bar(f"regional, {name}: latency below flat as published", lower, 0.60))
    header = ["case", "protocol", "survives", "client ms", "against published", "data plane", "own", "MB sent"]
    note = (
        "\n\nThe gain is the data plane's: erasure-coded chunks use every uplink, not the leader's alone. Beside "
        "flat with the same data plane the regional path costs some latency, and saves messages and processor time. "
        "Protocols with a lower bound need more chunks of less redundancy: their data plane is cheaper too."
    )
    return "## Large payloads\n\n" + table(header, rows) + note, bars, records


def idle(base: Case) -> Part:
    """Compare idle councils with small payloads."""
    rows, records, worst = [], [], -1.0
    for n in (10, 16, 31, 40, 64, 100):
        flat = measure(replace(base, n=n))
        line = [str(n), f"{1e3 * flat.client.mean():.0f}"]
        for protocol, regions in COMPARED:
            one = measure(replace(base, n=n, protocol=protocol, regions=regions))
            change = float(one.client.mean() / flat.client.mean() - 1)
            if (protocol, regions) == COMPARED[0]:
                worst = max(worst, change)
            line.append(f"{1e3 * one.client.mean():.0f} ({change:+.1%})")
            records.append(_record(one))
        rows.append(line)
    bars = [Bar("regional, sites, idle, 1 kB, n ≤ 100: slower than flat, most", worst, 0.12, at_least=False)]
    note = (
        "\n\nFour regions over ten sites span continents: `auto` buys the fewest messages with long ways inside a "
        "region. Idle latency wants as many regions as there are sites."
    )
    return (
        "## Idle, 1 kB, 1 Gbit/s: client latency in ms\n\n" + table(["n", "flat", *SHOWN], rows) + note,
        bars,
        records,
    )


def leaders(base: Case) -> Part:
    """Compare the fast path with the mean flat leader, over all leader sites."""
    sites = len(base.latency.names)
    figures: dict[str, list[float]] = {"flat": [], "regional": [], "regional-fast": []}
    for site in range(sites):
        order = [base.latency.names[(site + index) % sites] for index in range(sites)]
        turned = replace(base, latency=base.latency.select(order), leader="first")
        for protocol, seconds in figures.items():
            seconds.append(float(measure(replace(turned, protocol=protocol)).client.mean()))
    mean = float(np.mean(figures["flat"]))
    rows = [
        [name, *(f"{1e3 * value:.0f}" for value in (min(seconds), float(np.mean(seconds)), max(seconds))),
         f"{np.mean(seconds) / mean - 1:+.1%}", f"{min(seconds) / mean - 1:+.1%}"]
        for name, seconds in figures.items()
    ]  # fmt: skip
    lower = [1 - value / mean for value in (float(np.mean(figures["regional-fast"])), min(figures["regional-fast"]))]
    bars = [
        Bar("regional-fast, best leader, n = 100: below flat's mean leader", lower[1], 0.20),
        Bar("regional-fast, mean leader, n = 100: below flat's mean leader", lower[0], 0.20),
    ]
    header = ["protocol", "best leader, ms", "mean", "worst", "mean against flat's mean", "best against flat's mean"]
    return "## Leaders at each of the ten sites, n = 100, 1 kB\n\n" + table(header, rows), bars, [figures]


def saturation(base: Case) -> Part:
    """Load councils of 100 until the busiest processor limits them."""
    rows, records, busiest = [], [], []
    flat = [(base, 24), (replace(base, signatures="bls"), 24), (replace(base, protocol="flat-mac"), 24)]
    # Heads change after IN_FLIGHT numbers: no more, or the busiest would be a mean over several heads.
    others = [(replace(base, protocol=protocol, regions=regions), IN_FLIGHT) for protocol, regions in COMPARED]
    for case, rounds in (*flat, *others):
        gc.collect()
        one = measure(replace(case, rounds=rounds, rate=math.inf))
        busiest.append(one.busiest)
        k = str(len(one.sizes)) if one.ran not in ("flat", "star") else ""
        steady = f"{one.throughput:.0f}" if rounds == IN_FLIGHT else ""
        times = f"{busiest[0] / one.busiest:.2f}"
        figures = [f"{1e3 * one.busiest:.2f}", f"{1 / one.busiest:.0f}", steady, times]
        rows.append([case.protocol, k, one.scheme, str(one.bound), *figures])
        records.append(_record(one))
    ratio = busiest[0] / busiest[len(flat)]
    bars = [Bar("regional, sites, n = 100: saturation throughput over signature-flat's", ratio, 2.5)]
    header = ["protocol", "k", "signatures", "survives", "busiest ms", "carries/s", "simulated/s", "× flat"]
    note = (
        "\n\nOne request per decision; what larger batches add is the same for every protocol. Carries: the inverse "
        "of the busiest processor's time per decision, measured under load. Simulated: 128 decisions asked for at "
        "once, from the first proposal to the last execution.\n\n"
        + _floor(base)
        + _by_size(base)
        + "\n\nMACs convince one receiver each: flat-mac has no certificates and would need another view "
        "change, and it carries more than any path with "
        "signatures. Flat with BLS votes that are added up unchecked and checked once is the fairer baseline."
    )
    return "## Saturation, n = 100, 1 kB, 1 Gbit/s\n\n" + table(header, rows) + note, bars, records


def _floor(base: Case) -> str:
    """Say what a head of `regional` cannot do without: the part of its time that is signatures."""
    bls, quorum = base.costs.signatures("bls", base.n), Threshold(base.n).quorum
    sites = len(base.latency.names)
    region = base.n // sites
    own, certificate = bls.verify_all(region), bls.verify_all(quorum)
    added = bls.combine(region + -(-quorum // region))
    total = bls.verify_s + 3 * bls.sign_s + 2 * (own + certificate + added)
    return (
        f"What dominates a regional head: it checks the proposal ({1e3 * bls.verify_s:.2f} ms), signs two votes and "
        f"a reply ({3e3 * bls.sign_s:.2f}), and per phase checks its own bundle ({1e3 * own:.2f}), a certificate "
        f"({1e3 * certificate:.2f}) and adds signatures up ({1e3 * added:.2f}): {1e3 * total:.1f} ms of BLS, "
        f"whatever else it does; flat's busiest checks 2 × {quorum - 1} Ed25519 votes in "
        f"{2e3 * (quorum - 1) * base.costs.ed25519_verify:.1f} ms."
    )


def _by_size(base: Case) -> str:
    """Say how the ratio grows with the council."""
    ratios = []
    for n in (64, 100, 200, 400):
        flat, regional = (measure(replace(base, protocol=protocol, n=n)) for protocol in ("flat", "regional"))
        ratios.append(f"{flat.busiest / regional.busiest:.2f} at n = {n}")
    return f" The ratio, idle, by size: {', '.join(ratios)}."


def networks(base: Case, data: Path) -> Part:
    """Repeat the idle comparison on the other measured networks."""
    rows, records = [], []
    names = (
        "relab-hotstuff/wonderproxy.csv",
        "relab-hotstuff/aws.csv",
        "/".join(AWS),
        "netlatency-data/Seattle/SeattleData_1",
    )
    compared = (
        ("regional", "sites"),
        ("regional", 10),
        ("regional", "auto"),
        ("regional-fast", 10),
        ("star", "auto"),
    )
    for name in names:
        latency = network(str(data / name))
        n = min(100, len(latency.names)) if "Seattle" in name else 100
        here = replace(base, latency=latency, network=name, n=n, jitter=True, rounds=5)
        flat = measure(here)
        line = [f"`{name}`", str(n), f"{1e3 * np.median(flat.client):.0f}"]
        for protocol, regions in compared:
            one = measure(replace(here, protocol=protocol, regions=regions))
            k = f", k = {len(one.sizes)}" if regions == "sites" else ""
            change = np.median(one.client) / np.median(flat.client) - 1
            line.append(f"{1e3 * np.median(one.client):.0f} ({change:+.0%}{k})")
            records.append(_record(one))
        rows.append(line)
    header = ["file", "n", "flat", "regional, sites", "regional, k = 10", "regional, auto", "fast, k = 10", "star"]
    title = "## Other networks: idle, 1 kB, median client latency in ms of five requests, with jitter"
    return f"{title}\n\n" + table(header, rows), [], records


def simulator(base: Case) -> Part:
    """Measure the simulator itself."""
    free = replace(base, costs=FREE, signatures="ed25519", rounds=20)
    speed = max(_events_per_second(free) for _ in range(3))
    whole, decision = min(_decision_cpu(replace(base, protocol="regional", n=1000, regions="auto")) for _ in range(3))
    flat, _ = vectorised(replace(base, n=1000, chunks=False))
    vector = min(_cpu(lambda: arrays.decide(flat)) for _ in range(5))
    bars = [
        Bar("simulator, flat n = 100, null signer, free processors: messages/s on one core", speed, 50_000),
        Bar("regional n = 1,000, auto k: CPU seconds of a decision", decision, 0.5, at_least=False),
        Bar("vectorised flat, n = 1,000: CPU seconds of a decision", vector, 0.2, at_least=False),
    ]
    text = (
        "## The simulator\n\n"
        f"{speed:,.0f} messages/s through replicas; a decision of `regional` with 1,000 replicas {decision:.2f} s of "
        f"CPU ({whole:.1f} s for the first, with the making of the council); of vectorised `flat` {vector:.2f} s."
    )
    return text, bars, [{"messages_per_s": speed, "regional_1000_s": decision, "vectorised_1000_s": vector}]


def _events_per_second(case: Case) -> float:
    gc.collect()
    began = time.process_time()
    one = measure(case)
    return one.events / (time.process_time() - began)


def _decision_cpu(case: Case) -> tuple[float, float]:
    """CPU seconds of a council's first decision, its making included, and of each of four more."""
    gc.collect()
    one, five = (_cpu(lambda rounds=rounds: measure(replace(case, rounds=rounds))) for rounds in (1, 5))
    return one, (five - one) / 4


def _cpu(call: Any) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _counted(one: Figures) -> dict[str, Any]:
    return {
        "n": one.case.n,
        "protocol": one.case.protocol,
        "regions": list(one.sizes),
        "vote": one.messages["vote"],
        "formula": formulas.messages(one.ran, one.sizes),
        "backup": one.messages.get("backup", 0.0),
        "vote_bytes": one.bytes["vote"],
    }


def _gain(one: Figures, published: Figures, chunked: Figures) -> list[str]:
    base = published.client.mean()
    total, plane = one.client.mean() / base - 1, (chunked.client.mean() / base - 1 if one.case.chunks else 0.0)
    return [f"{1e3 * one.client.mean():,.0f}", f"{total:+.1%}", f"{plane:+.1%}", f"{total - plane:+.1%}"]


def _record(one: Figures) -> dict[str, Any]:
    case = one.case
    return {
        "protocol": case.name, "n": case.n, "network": case.network, "placing": case.placing, "leader": case.leader,
        "regions": list(one.sizes), "survives": one.bound, "signatures": one.scheme, "payload": case.payload,
        "link": case.link, "client_s": [round(float(value), 6) for value in one.client[:64]],
        "commit_s": [round(float(value), 6) for value in one.commit[:64]], "phases_s": one.phases,
        "messages": one.messages, "bytes": one.bytes, "wan_bytes": one.wide_bytes, "busiest_s": one.busiest,
        "throughput": one.throughput,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
