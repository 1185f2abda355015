"""What a bad line costs, and that it changes no word: docs/link.csv and docs/link.png (`make study-link`).

Each row trains a small model on the emulated Cortex-M4F through `line_proxy.LineProxy`, one kind of fault in both
directions, and compares every trained word with the host's core. Then hosts are killed, and devices.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from line_proxy import CLEAN, Faults
from link_runs import MIX, SMALL, SPEECH, Bench, Run, over_bad_line, with_killed_hosts, with_restarts
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from deltatrain.report import svg
from deltatrain.report.palette import LIGHT

SMALL_NAME, SPEECH_NAME = "8→16", "16→64"
DOCS = Path(__file__).parents[1] / "docs"
WIDTH_IN, HEIGHT_IN = 7.2, 5.4
DPI = 120
BAUD_BYTES = 11520  # a second, at 115200 baud
RATES = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3)


@dataclass(frozen=True)
class Row:
    """One kind of line."""

    name: str
    faults: Faults
    sizes: str = SMALL_NAME


ROWS = [
    *(Row(f"bit errors {rate:g}", Faults(bit_errors=rate)) for rate in RATES),
    Row("lost bytes 1e-3", Faults(dropped=1e-3)),
    Row("doubled bytes 1e-3", Faults(doubled=1e-3)),
    Row("inserted bytes 1e-3", Faults(inserted=1e-3)),
    Row("stalls of 0.1 s, 1e-4", Faults(stalls=1e-4)),
    Row("cuts 1e-4", Faults(cuts=1e-4)),
    Row("mix", MIX),
    Row("bit errors 0", CLEAN, SPEECH_NAME),
    Row("bit errors 0.0001", Faults(bit_errors=1e-4), SPEECH_NAME),
]


def described(row: Row, bench: Bench, run: Run, clean: Run) -> dict[str, object]:
    """A line of docs/link.csv."""
    line_bytes = run.line.bytes / run.steps
    return {
        "line": row.name,
        "model": row.sizes,
        "steps": run.steps,
        "once_each": run.once_each,
        "words": run.words,
        "words_different": run.words_different,
        "seconds": round(run.seconds, 1),
        "steps_per_s": round(run.steps / run.seconds, 1),
        "payload_bytes_per_s": round(bench.payload_bytes * run.steps / run.seconds),
        "line_bytes_per_step": round(line_bytes, 1),
        "carried_of_clean": round(clean.line.bytes / clean.steps / line_bytes, 3),
        "steps_per_s_at_115200_baud": round(BAUD_BYTES / line_bytes, 2),
        "sent_again_per_step": round(run.link.repeated / run.steps, 3),
        "requests_damaged": run.link.requests_damaged,
        "replies_damaged": run.link.replies_damaged,
        "silences": run.link.silences,
        "reopened": run.link.reopened,
        "bits_flipped": run.line.bits_flipped,
        "bytes_lost": run.line.dropped,
        "bytes_doubled": run.line.doubled,
        "bytes_inserted": run.line.inserted,
        "stalls": run.line.stalls,
        "cuts": run.line.cuts,
    }


def picture(table: Sequence[Mapping[str, object]], path: Path) -> None:
    """What is carried, and what is sent again, over the bit error rate: a panel each."""
    rows = [row for row in table if str(row["line"]).startswith("bit errors") and row["model"] == SMALL_NAME]
    rates = [float(str(row["line"]).split()[-1]) for row in rows]
    panels = (
        ("carried_of_clean", 100, "blue", "carried: training steps for each byte on the line, % of a clean line's"),
        ("sent_again_per_step", 1, "vermilion", "frames sent again for each training step"),
    )
    with svg.style():
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained", facecolor=LIGHT["surface"])
        figure.suptitle(f"Training a network {SMALL_NAME} over a line with bit errors", x=0.01, ha="left", fontsize=13)
        for axes, (name, factor, colour, title) in zip(figure.subplots(2, sharex=True), panels, strict=True):
            axes.plot(rates, [factor * float(str(row[name])) for row in rows], color=LIGHT[colour], marker="o")
            axes.set_xscale("symlog", linthresh=min(rate for rate in rates if rate))
            axes.set_ylim(bottom=0)
            axes.set_title(title)
        axes.set_xticks(rates, [f"{rate:.0e}".replace("e-0", "e-") if rate else "0" for rate in rates])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("bit error rate")
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def main() -> int:
    """Run the study; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="training steps a line")
    parser.add_argument("--kills", type=int, default=40, help="hosts killed")
    parser.add_argument("--restarts", type=int, default=25, help="devices killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of link.csv and link.png")
    parser.add_argument("--draw", action="store_true", help="measure nothing; draw the link.csv that is there")
    given = parser.parse_args()
    if given.draw:
        with (given.out / "link.csv").open(encoding="utf-8", newline="") as file:
            picture(list(csv.DictReader(file)), given.out / "link.png")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        benches = {}
        for sizes, options in ((SMALL_NAME, SMALL), (SPEECH_NAME, SPEECH)):
            (Path(folder) / sizes).mkdir()
            benches[sizes] = Bench.build(options, Path(folder) / sizes)
        table: list[dict[str, object]] = []
        clean: dict[str, Run] = {}
        failed = 0
        for row in ROWS:
            bench = benches[row.sizes]
            run = over_bad_line(bench, row.faults, given.steps, given.seed)
            clean.setdefault(row.sizes, run)
            table.append(described(row, bench, run, clean[row.sizes]))
            failed += not run.once_each or run.words_different > 0
            print(", ".join(f"{name} {value}" for name, value in table[-1].items()), flush=True)
        small = benches[SMALL_NAME]
        for what, run in (
            ("hosts", with_killed_hosts(small, 20 * given.kills, given.kills, 0.3, given.seed)),
            ("devices", with_restarts(small, 100, given.restarts, 0.5, MIX, given.seed)),
        ):
            failed += not run.once_each or run.words_different > 0
            print(
                f"{given.kills if what == 'hosts' else len(run.interruptions)} {what} killed in {run.seconds:.0f} s: "
                f"{run.steps} steps, each once: {run.once_each}; {run.words} words, {run.words_different} differ"
            )
    with (given.out / "link.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    picture(table, given.out / "link.png")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
