"""How the cost of a training step grows with sparsity, frames, hidden units and layers: one axis at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from deltatrain.bench.board import bench_board
from deltatrain.bench.cases import Shape
from deltatrain.bench.desk import Desk
from deltatrain.bench.rows import BOARD_ENGINES, FIXED, BoardRow
from deltatrain.errors import InputError
from deltatrain.targets import Board

PRODUCTS = ("forward product", "backward product", "gradient product")


@dataclass(frozen=True)
class Grid:
    """What is measured: for each cell, `sparsities` at the default shape, and along each other axis dense and `sparse`.

    The default shape is of `steps` frames, `n_hidden` units and one layer.
    """

    cells: tuple[str, ...] = ("lstm", "gru")
    n_in: int = 16
    n_hidden: int = 64
    steps: int = 50
    sparse: float = 0.9
    sparsities: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
    frames: tuple[int, ...] = (25, 50, 100, 200, 400)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    layers: tuple[int, ...] = (1, 2, 3)

    def shapes(self) -> dict[Shape, tuple[float, ...]]:
        """Each network once, with its sparsities."""
        shapes: dict[Shape, tuple[float, ...]] = {}
        for cell in self.cells:
            shapes[self.default(cell)] = tuple(sorted({0.0, self.sparse, *self.sparsities}))
            others = [Shape(cell, self.n_in, self.n_hidden, steps, 1) for steps in self.frames]
            others += [Shape(cell, self.n_in, width, self.steps, 1) for width in self.widths]
            others += [Shape(cell, self.n_in, self.n_hidden, self.steps, layers) for layers in self.layers]
            for shape in others:
                shapes.setdefault(shape, (0.0, self.sparse))
        return shapes

    def default(self, cell: str) -> Shape:
        return Shape(cell, self.n_in, self.n_hidden, self.steps, 1)


@dataclass(frozen=True)
class GrowthPoint:
    """One row of the CSV: instructions of a training step, of the whole and of the three products (`fixed` alone)."""

    engine: str
    cell: str
    n_in: int
    n_hidden: int
    layers: int
    steps: int
    asked: float
    sparsity: float
    macs: int
    instructions: int
    forward_product: int
    backward_product: int
    gradient_product: int
    ram_bytes: int

    @property
    def products(self) -> int:
        """Instructions of all three."""
        return self.forward_product + self.backward_product + self.gradient_product


def measure_growth(
    board: Board, grid: Grid, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Iterator[list[GrowthPoint]]:
    """Measure a grid, one network after the other; progress is told in networks.

    Raises
    ------
    InputError, BuildError, DeviceError, CheckFailed
        As `bench_board`; a sparsity that cannot be had is found before anything is built.
    """
    cases = {shape: [shape.case(sparsity) for sparsity in sparsities] for shape, sparsities in grid.shapes().items()}
    for number, (shape, of_shape) in enumerate(cases.items()):
        progress(number, len(cases))
        rows = bench_board(Desk(board), of_shape, BOARD_ENGINES, lambda _: None)
        asked = [sparsity for sparsity in grid.shapes()[shape] for _ in BOARD_ENGINES]
        yield [_point(row, of_row) for row, of_row in zip(rows, asked, strict=True)]
    progress(len(cases), len(cases))


def _point(row: BoardRow, asked: float) -> GrowthPoint:
    forward, backward, gradient = (int(row.phases.get(name, 0)) for name in PRODUCTS)
    return GrowthPoint(
        engine=row.engine,
        cell=row.cell,
        n_in=row.n_in,
        n_hidden=row.n_hidden,
        layers=row.layers,
        steps=row.steps,
        asked=asked,
        sparsity=row.sparsity,
        macs=row.macs,
        instructions=row.instructions,
        forward_product=forward,
        backward_product=backward,
        gradient_product=gradient,
        ram_bytes=row.ram_bytes,
    )


@dataclass(frozen=True)
class Speedup:
    """Dense over sparse instructions of the same kernels, one default shape.

    `bound` is 1 / (1 − sparsity): what a kernel would reach whose cost were all in its products.
    """

    sparsity: float
    bound: float
    forward_product: float
    backward_product: float
    gradient_product: float
    products: float
    step: float
    over_float: float


def speedups(points: Sequence[GrowthPoint], shape: Shape) -> list[Speedup]:
    """By sparsity, of one shape; InputError where it was not measured dense."""
    own = sorted((p for p in points if _shape(p) == shape and p.engine == FIXED), key=lambda p: p.sparsity)
    others = {p.asked: p for p in points if _shape(p) == shape and p.engine != FIXED}
    if not own or own[0].asked != 0:
        raise InputError(f"{shape} was not measured at sparsity 0; run the study again")
    dense = own[0]
    return [
        Speedup(
            sparsity=point.sparsity,
            bound=1 / (1 - point.sparsity),
            forward_product=dense.forward_product / point.forward_product,
            backward_product=dense.backward_product / point.backward_product,
            gradient_product=dense.gradient_product / point.gradient_product,
            products=dense.products / point.products,
            step=dense.instructions / point.instructions,
            over_float=others[point.asked].instructions / point.instructions,
        )
        for point in own
    ]


def _shape(point: GrowthPoint) -> Shape:
    return Shape(point.cell, point.n_in, point.n_hidden, point.steps, point.layers)


def write_growth(path: Path, points: Sequence[GrowthPoint]) -> None:
    """As CSV, a header first; InputError where the file cannot be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(GrowthPoint)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(point) for point in points)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); name another folder") from error


def read_growth(path: Path) -> list[GrowthPoint]:
    """What `write_growth` wrote; InputError where it is something else."""
    kinds = {"engine": str, "cell": str, "asked": float, "sparsity": float}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                GrowthPoint(**{name: kinds.get(name, int)(text) for name, text in line.items()})
                for line in csv.DictReader(file)
            ]
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as the study's table ({error}); run the study again") from error
