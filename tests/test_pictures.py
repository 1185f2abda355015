"""The pictures of the documents: every panel says what it shows, every series is told from the others."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from study_link import main as study_link

from deltatrain.bench.growth import Grid, read_growth
from deltatrain.points import pooled, read_csv
from deltatrain.replay_choice import NO_REPLAY, Pooled, Way
from deltatrain.report.growth_figure import growth_figure
from deltatrain.report.replay_figure import replay_figure
from deltatrain.report.sweep import sweep_picture

DOCS = Path(__file__).resolve().parents[1] / "docs"

FEWEST_FOLDS = 3  # of a setting that the document shows


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that would have been saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_every_panel_of_the_growth_has_its_title_and_axes(drawn: list[Figure], tmp_path: Path) -> None:
    growth_figure(read_growth(DOCS / "growth.csv"), Grid(), tmp_path / "growth.png")
    panels = drawn[0].axes
    titles = [ax.get_title(loc="left") for ax in panels]
    assert len(panels) == len(set(titles)) == 8 and all(titles)
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in panels)


def test_the_sweep_has_one_legend_that_names_the_paper_and_tells_intervals_apart(
    drawn: list[Figure], tmp_path: Path
) -> None:
    points = pooled(read_csv(DOCS / "sweep-fsdd.csv"))
    sweep_picture(points, tmp_path / "all.png")  # settings without an error among them
    sweep_picture([point for point in points if point.folds >= FEWEST_FOLDS], tmp_path / "sweep.png")
    (legend,) = drawn[1].legends
    words = [text.get_text() for text in legend.get_texts()]
    assert len(words) == len(set(words)) and any(word.startswith("the paper's: 1.16 × dense") for word in words)
    for ax in drawn[1].axes:
        assert ax.get_legend() is None and not ax.texts
        offsets = {tuple(bars.get_transform().transform((1, 1)).round(3)) for bars in ax.collections}
        assert len(offsets) == len({str(bars.get_edgecolor()) for bars in ax.collections}) > 1


def test_every_way_of_replay_has_its_own_colour_and_marker(drawn: list[Figure], tmp_path: Path) -> None:
    ways = [NO_REPLAY, *(Way(form, kib, 1.0) for form in ("int16", "int8", "events") for kib in (4, 8))]
    ways += [Way("events", kib, 0.5) for kib in (4, 8)]
    replay_figure([Pooled(1, way, 2, 3.0, 0.1, 0.01, 0.02, 0.001) for way in ways], tmp_path / "replay.png")
    bars = [c for c in drawn[0].axes[0].containers if isinstance(c, ErrorbarContainer)]
    series = [container.lines[0] for container in bars if container.lines[0] is not None]
    assert len(series) == 4
    for looks in ({str(line.get_color()) for line in series}, {str(line.get_marker()) for line in series}):
        assert len(looks) == 4
    assert {line.get_linestyle() for line in series} == {"-", "--", ":"}


def test_the_links_picture_is_drawn_from_its_table(
    drawn: list[Figure], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "link.csv").write_bytes((DOCS / "link.csv").read_bytes())
    monkeypatch.setattr(sys, "argv", ["study_link", "--draw", "--out", str(tmp_path)])
    assert study_link() == 0
    with (DOCS / "link.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["line"].startswith("bit errors") and row["model"] == "8→16"]
    carried, again = (np.asarray(ax.lines[0].get_ydata()).tolist() for ax in drawn[0].axes)
    assert carried == pytest.approx([100 * float(row["carried_of_clean"]) for row in rows])
    assert again == pytest.approx([float(row["sent_again_per_step"]) for row in rows])
    assert all(ax.get_title(loc="left") for ax in drawn[0].axes)
