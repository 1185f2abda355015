"""Errors in words: which unit they have depends on the data's targets."""

from __future__ import annotations

from deltatrain.cli.terminal import percent


def errors(judged_by: str, *values: float) -> str:
    """`24.2 % → 4.2 %`; of values, whose error is in units of their standard deviation, `1.075 → 0.514 std. dev.`"""
    if judged_by == "values":
        return " → ".join(f"{value:.3f}" for value in values) + " std. dev."
    return " → ".join(percent(value) for value in values)
