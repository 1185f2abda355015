"""How a training step's cost grows, on the emulated Cortex-M4F: docs/growth.csv and .png, tables of PERFORMANCE.md.

    python tools/bench_docs.py            measure, draw, write the tables (some minutes on one core)
    python tools/bench_docs.py --draw     draw docs/growth.csv as it is, and write its tables

The figures are instructions: the same on every computer, under any load.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deltatrain.bench.growth import Grid, GrowthPoint, measure_growth, read_growth, speedups, write_growth
from deltatrain.bench.rows import FIXED, FLOAT
from deltatrain.cli.options import DEFAULT_TARGET
from deltatrain.cli.terminal import Terminal
from deltatrain.errors import DeltatrainError, InputError
from deltatrain.report.growth_figure import CELL_NAMES, growth_figure
from deltatrain.session import board_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
CSV, PICTURE, TABLES = "growth.csv", "growth.png", "PERFORMANCE.md"


def speedup_table(points: Sequence[GrowthPoint], grid: Grid) -> list[str]:
    """Speed-ups by sparsity, in Markdown."""
    lines = [
        "| cell | sparsity | bound | forward product | backward product | gradient product | the three | whole step "
        "| over float32 |",
        "|" + "---|" * 9,
    ]
    for cell in grid.cells:
        for one in speedups(points, grid.default(cell)):
            products = (one.forward_product, one.backward_product, one.gradient_product)
            ratios = (one.bound, *products, one.products, one.step, one.over_float)
            values = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            lines.append(f"| {CELL_NAMES[cell]} | {100 * one.sparsity:.1f} % | {values} |")
    return lines


def cost_table(points: Sequence[GrowthPoint], grid: Grid) -> list[str]:
    """Instructions and RAM by shape, in Markdown."""
    lines = [
        f"| cell | layers | hidden | frames | float32 | dense | {100 * grid.sparse:g} % sparse | float32 / sparse "
        "| RAM, float32 | RAM |",
        "|" + "---|" * 10,
    ]
    found = {(p.engine, p.cell, p.layers, p.n_hidden, p.steps, p.asked): p for p in points}
    shapes = sorted(grid.shapes(), key=lambda s: (grid.cells.index(s.cell), s.n_layers, s.n_hidden, s.steps))
    for shape in shapes:
        sizes = (shape.cell, shape.n_layers, shape.n_hidden, shape.steps)
        of_float, dense, sparse = (
            found[engine, *sizes, asked] for engine, asked in ((FLOAT, 0.0), (FIXED, 0.0), (FIXED, grid.sparse))
        )
        counts = " | ".join(f"{point.instructions:,}" for point in (of_float, dense, sparse))
        lines.append(
            f"| {CELL_NAMES[shape.cell]} | {shape.n_layers} | {shape.n_hidden} | {shape.steps} | {counts} "
            f"| {of_float.instructions / sparse.instructions:.2f} | {of_float.ram_bytes:,} | {sparse.ram_bytes:,} |"
        )
    return lines


def with_tables(text: str, tables: Mapping[str, Sequence[str]]) -> str:
    """A document whose parts between `<!-- NAME -->` and `<!-- end -->` are the tables of these names."""
    for name, lines in tables.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not start or not end:
            raise InputError(f"the document has no place for the table {name!r}: <!-- {name} --> and <!-- end -->")
        text = before + start + "\n".join(["", *lines, "", ""]) + end + after
    return text


def measure(grid: Grid, target: str, path: Path) -> list[GrowthPoint]:
    """Measure a grid; what is done is in the file also when interrupted."""
    points: list[GrowthPoint] = []
    try:
        with Terminal(as_json=False).bar("networks") as bar:
            for part in measure_growth(board_of(target), grid, lambda done, total: bar(done, total, {})):
                points += part
    finally:
        write_growth(path, points)
    return points


def main(arguments: Sequence[str] | None = None, grid: Grid | None = None) -> None:
    """Run the study; `grid` instead of the documentation's is for tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for all files; default: docs")
    parser.add_argument("--target", default=DEFAULT_TARGET, help=f"an emulated board; default: {DEFAULT_TARGET}")
    parser.add_argument("--draw", action="store_true", help="measure nothing; take the table that is there")
    options = parser.parse_args(arguments)
    grid = grid or Grid()
    path = options.out / CSV
    if options.draw:
        points = read_growth(path)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        points = measure(grid, options.target, path)
    growth_figure(points, grid, options.out / PICTURE)
    tables = {"speed-ups": speedup_table(points, grid), "costs": cost_table(points, grid)}
    print("\n\n".join("\n".join(lines) for lines in tables.values()))
    document = options.out / TABLES
    if document.exists():
        document.write_text(with_tables(document.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except DeltatrainError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
