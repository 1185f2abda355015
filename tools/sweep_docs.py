"""The figure and the tables of docs/SWEEP.md: python tools/sweep_docs.py [models.csv of a sweep ...]

With files, their models become docs/sweep-fsdd.csv and .png; always prints the tables of docs/sweep-fsdd.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deltatrain.points import Point, pooled, read_csv, write_csv
from deltatrain.report.sweep import sweep_picture

DOCS = Path(__file__).resolve().parent.parent / "docs"
CSV, PICTURE = DOCS / "sweep-fsdd.csv", DOCS / "sweep-fsdd.png"
ORDER = ("LSTM 64", "GRU 64", "LSTM 110", "LSTM 2 × 64")
FEWEST_FOLDS = 3
"""Settings with fewer stand in the CSV alone: a study that is under way."""

HEADER = (
    "| | θ | folds | error (95 %) | op reduction | without dx | error / dense (95 %) |\n|---|---|---|---|---|---|---|"
)
MODES = {
    "plain": "from scratch",
    "beta": "from scratch, β",
    "finetune": "fine-tuned",
    "finetune+beta": "fine-tuned, β",
}


def line(point: Point) -> str:
    """A setting, as a line of its network's table."""
    ratio = "–"
    if point.ratio is not None and not (point.is_dense and point.mode == point.versus):
        high = "∞" if point.ratio_high is None else f"{point.ratio_high:.2f}"
        ratio = f"{point.ratio:.2f} ({point.ratio_low:.2f}–{high})"
    theta = f"{point.theta_h:g}" if point.theta_x == point.theta_h else f"{point.theta_x:g} / {point.theta_h:g}"
    error = f"{100 * point.error:.2f} % ({100 * point.error_low:.2f}–{100 * point.error_high:.2f})"
    return (
        f"| {MODES[point.mode]} | {theta} | {point.folds} | {error} | {point.op_reduction:.2f} "
        f"| {point.op_reduction_without_dx:.2f} | {ratio} |"
    )


def tables(points: list[Point]) -> list[str]:
    """The lines of all tables, networks in ORDER."""
    lines = []
    for network in ORDER:
        group = [point for point in points if point.network == network]
        group.sort(key=lambda point: (list(MODES).index(point.mode), point.theta_h, point.theta_x))
        if group:
            lines += [f"### {network}", "", *HEADER.splitlines(), *map(line, group), ""]
    return lines


def shown(points: list[Point]) -> list[Point]:
    """Those that the documentation shows, networks in ORDER; none that is there only dense."""
    enough = [point for point in points if point.folds >= FEWEST_FOLDS]
    swept = {point.network for point in enough if not point.is_dense}
    return sorted((point for point in enough if point.network in swept), key=lambda point: ORDER.index(point.network))


def main() -> None:
    """Write what files were given for, and print the tables."""
    if sys.argv[1:]:
        rows = [row for name in sys.argv[1:] for row in read_csv(Path(name))]
        write_csv(CSV, rows)
        sweep_picture(shown(pooled(rows)), PICTURE)
    print("\n".join(tables(shown(pooled(read_csv(CSV))))))


if __name__ == "__main__":
    main()
