"""Progress: a bar that keeps to its line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from deltatrain.cli.progress import PLAIN_EVERY_S, fitting, progress_of

BESIDE = {"loss": 0.12345, "error": 0.25, "steps/s": "12.3", "sparsity": 0.9, "saturated": 12, "rate": "0.16"}


def shown(width: int, *, terminal: bool) -> list[str]:
    """The lines that three steps of 1000 leave."""
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=terminal, force_interactive=terminal, color_system=None)
    with progress_of("training on the device", console) as update:
        for done in (997, 998, 999):
            update(done, 1000, BESIDE)
    assert "\n\n" not in output.getvalue()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue()).replace("\r", "\n").splitlines()


def test_fields_at_the_end_give_way() -> None:
    fields = ["a 1", "b 22", "c 3"]
    assert [fitting(fields, width) for width in (14, 13, 9, 8, 3, 2)] == [
        *("a 1  b 22  c 3", "a 1  b 22", "a 1  b 22", "a 1", "a 1", "")
    ]


@pytest.mark.parametrize(
    ("width", "last"),
    [(60, None), (80, "error 0.250"), (100, "steps/s 12.3"), (112, "sparsity 0.900"), (140, "rate 0.16")],
)
def test_a_bar_keeps_to_its_line(width: int, last: str | None) -> None:
    drawn = [line for line in shown(width, terminal=True) if "999/1000" in line][-1]
    assert "━" * 11 in drawn and "training on the device" in drawn and len(drawn.rstrip()) <= width
    assert drawn.rstrip().endswith(last) if last else "loss" not in drawn


def test_elsewhere_a_line_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(80, terminal=False) == [
        "  training on the device  997/1000  loss 0.123  error 0.250  steps/s 12.3",
        "  training on the device  999/1000  loss 0.123  error 0.250  steps/s 12.3",
    ]
    clock = iter(range(0, 1000, int(PLAIN_EVERY_S)))
    monkeypatch.setattr("deltatrain.cli.progress.monotonic", lambda: float(next(clock)))
    assert [line.split()[4] for line in shown(80, terminal=False)] == ["997/1000", "998/1000", "999/1000"]
