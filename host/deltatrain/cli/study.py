"""`study`: what takes many runs to see."""

from __future__ import annotations

import click

from deltatrain.cli.group import Group, Lazy

STUDIES = {
    "parity": Lazy("deltatrain.cli.study_parity:parity", "The same batch-1 training in float64 and in fixed point."),
    "personal": Lazy("deltatrain.cli.study_personal:personal", "The main job for each held-out speaker and seed."),
    "replay": Lazy("deltatrain.cli.study_replay:replay", "What stored exemplars of old speakers buy, by their bytes."),
}


@click.group(cls=Group, lazy=STUDIES)
def study() -> None:
    """Many runs, pooled: speakers × seeds. Finished runs are kept; the same command goes on where it stopped."""
