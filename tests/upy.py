"""What tests of MicroPython modules share: random training runs of the C core, as files for a port to repeat."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from equality import random_frames, random_settings, random_targets, words_of
from numpy.typing import NDArray

from deltatrain import image
from deltatrain.quant_model import QuantModel
from deltatrain.training import Settings
from deltatrain_core import CoreNetwork, StepResult

ROOT = Path(__file__).resolve().parents[1]
MICROPYTHON = ROOT / "firmware" / "micropython"
NODE = ROOT / "tests" / "micropython"
RESULTS = tuple(name for name in StepResult.__dataclass_fields__ if name != "macs_recomputed")
"""What is equal everywhere: a trainer that holds the whole history computes nothing twice."""


def settings_of(settings: Settings) -> dict[str, Any]:
    """As `configure` of either module takes them."""
    scales = {name: getattr(settings, name) for name in ("learning_rate", "clip", "beta")}
    thetas = {name: list(getattr(settings, name)) for name in ("theta_x", "theta_h")}
    return {name: [scale.m, scale.e] for name, scale in scales.items()} | thetas | {"seed": settings.seed}


def outcome(core: CoreNetwork, model: QuantModel, result: StepResult) -> dict[str, Any]:
    """Every word that a training step leaves, in lists."""
    return {
        "result": {name: getattr(result, name) for name in RESULTS},
        "tensors": {name: core.tensor(name).tolist() for name in words_of(model)},
    }


def train_core(
    core: CoreNetwork, frames: NDArray[np.int16], label: int, targets: NDArray[np.int32] | None
) -> StepResult:
    """One training step of the C core."""
    core.begin()
    core.push(frames, want_hidden=False, targets=targets)
    return core.train(label) if targets is None else core.learn()


def record(folder: Path, model: QuantModel, n_steps: int, rng: np.random.Generator) -> None:
    """A model, and a random run of the C core on it, as tests/micropython/compare.py reads them."""
    folder.mkdir(parents=True)
    (folder / "model.drnn").write_bytes(image.encode(model))
    core, settings = CoreNetwork(model), random_settings(rng, model)
    settings.apply(core)
    lines = [settings_of(settings)]
    for _ in range(n_steps):
        if model.replay is not None and rng.random() < 0.3:
            lines.append({"frames": None} | outcome(core, model, core.replay()))
            continue
        frames = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
        targets, label = random_targets(rng, model, len(frames)), int(rng.integers(model.n_outputs))
        result = train_core(core, frames, label, targets)
        target = label if targets is None else targets.ravel().tolist()
        lines.append({"frames": frames.ravel().tolist(), "target": target} | outcome(core, model, result))
    (folder / "steps.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def why_no_node() -> str | None:
    """What is missing of MicroPython under node; None where it runs."""
    if shutil.which("node") is None:
        return "node is not installed; `make setup` installs it"
    if not (NODE / "node_modules").is_dir():
        return "MicroPython for node is not installed; `make setup` installs it"
    return None


def run_node(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a folder in MicroPython under node."""
    command = ["node", str(NODE / "run.mjs"), str(folder), program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
