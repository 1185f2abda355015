"""The study of how cost grows, on a tiny grid: every combination once, speed-ups, table, figure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import bench_docs
import pytest

from deltatrain.bench import Shape
from deltatrain.bench.growth import Grid, GrowthPoint, read_growth, speedups, write_growth
from deltatrain.errors import InputError
from deltatrain.report.growth_figure import growth_figure
from deltatrain.targets import find_board

TINY = Grid(
    cells=("rnn",),
    n_in=4,
    n_hidden=8,
    steps=12,
    sparse=0.5,
    sparsities=(0.0, 0.5),
    frames=(12,),
    widths=(8,),
    layers=(1,),
)


def made_up(engine: str, asked: float, instructions: int, steps: int = 50, products: int = 0) -> GrowthPoint:
    return GrowthPoint(
        engine=engine,
        cell="lstm",
        n_in=16,
        n_hidden=64,
        layers=1,
        steps=steps,
        asked=asked,
        sparsity=asked,
        macs=1,
        instructions=instructions,
        forward_product=products,
        backward_product=2 * products,
        gradient_product=3 * products,
        ram_bytes=1000,
    )


def test_a_grid_has_each_network_once_and_its_axes_dense_and_sparse() -> None:
    shapes = Grid().shapes()
    assert len(shapes) == 2 * (1 + 4 + 3 + 2)
    assert shapes[Shape("gru", 16, 64, 400, 1)] == (0.0, 0.9)
    assert shapes[Shape("lstm", 16, 64, 50, 3)] == (0.0, 0.9)
    assert shapes[Shape("lstm", 16, 64, 50, 1)][-1] == 0.95


def test_speedups_are_over_the_same_kernels_dense() -> None:
    points = [
        made_up("float-naive", 0.0, 900),
        made_up("fixed", 0.0, 800, products=100),
        made_up("float-naive", 0.5, 900),
        made_up("fixed", 0.5, 500, products=60),
        made_up("fixed", 0.5, 7, steps=25),
    ]
    dense, half = speedups(points, Shape("lstm", 16, 64, 50))
    assert (dense.bound, dense.step, dense.products) == (1.0, 1.0, 1.0)
    assert (half.bound, half.step, half.over_float) == (2.0, 1.6, 1.8)
    assert half.products == half.gradient_product == 100 / 60
    with pytest.raises(InputError, match="not measured at sparsity 0"):
        speedups(points, Shape("lstm", 16, 64, 25))


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    points = [made_up("fixed", 0.0, 800, products=100), made_up("float-naive", 0.9, 900)]
    write_growth(tmp_path / "growth.csv", points)
    assert read_growth(tmp_path / "growth.csv") == points
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name in ("other.csv", "none.csv"):
        with pytest.raises(InputError, match="run the study again"):
            read_growth(tmp_path / name)


def test_a_figure_of_a_study_that_was_interrupted_is_refused(tmp_path: Path) -> None:
    points = [
        replace(made_up(engine, asked, 100, products=1), cell="lstm")
        for engine in ("fixed", "float-naive")
        for asked in (0.0, 0.9)
    ]
    with pytest.raises(InputError, match="the study lacks"):
        growth_figure(points, Grid(cells=("lstm",)), tmp_path / "growth.png")


def test_the_study_measures_draws_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = find_board("mps2-an386")
    if board is None or any(shutil.which(program) is None for program in board.needs):
        pytest.skip("the board's compiler or emulator is not installed; `make setup` installs it")
    bench_docs.main(["--out", str(tmp_path)], TINY)
    told = capsys.readouterr().out
    points = read_growth(tmp_path / "growth.csv")
    assert len(points) == 2 * 2
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "| RNN | 1 | 8 | 12 | " in told
    document = tmp_path / "PERFORMANCE.md"
    document.write_text("a\n<!-- speed-ups -->\nold\n<!-- end -->\nb\n<!-- costs -->\n<!-- end -->\nc\n")
    bench_docs.main(["--out", str(tmp_path), "--draw"], TINY)
    assert capsys.readouterr().out == told
    speedup_lines, cost_lines = told.rstrip().split("\n\n")
    speedup_part = f"<!-- speed-ups -->\n\n{speedup_lines}\n\n<!-- end -->"
    cost_part = f"<!-- costs -->\n\n{cost_lines}\n\n<!-- end -->"
    assert document.read_text() == f"a\n{speedup_part}\nb\n{cost_part}\nc\n"


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(InputError, match="no place for the table 'costs'"):
        bench_docs.with_tables("nothing", {"costs": ["| |"]})
