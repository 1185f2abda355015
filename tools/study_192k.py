"""A network of 56,000 parameters trains on real speech in 192 KiB of RAM, every word compared with the host.

    python tools/study_192k.py --data-dir DIR [--steps 500] [--speaker jackson]

An LSTM 16→110 for samples of up to 50 frames is pre-trained on the other speakers of `fsdd`, built for a board with no
more than 192 KiB, and trained on the speaker's recordings, one after the other, on the emulated Cortex-M4F. After every
step all words are compared with the C core and the integer reference on this computer. The last line is
`N steps, M words compared, K words differ`; exit status 1 where K is not 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from deltatrain import datasets
from deltatrain.cli.terminal import Terminal, table
from deltatrain.comparison import compare
from deltatrain.demo import DEFAULT_THETA, epochs_shown
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig
from deltatrain.fixed import FixedNetwork
from deltatrain.link import Device
from deltatrain.pretrain import FitConfig, fit
from deltatrain.quantize import quantize
from deltatrain.samples import samples_of
from deltatrain.targets import Emulator, parse_target
from deltatrain.training import Engine, Settings
from deltatrain_codegen import export, plan_memory, ram_needed
from deltatrain_core import CoreNetwork

RAM_BYTES = 192 * 1024
N_HIDDEN, MAX_STEPS = 110, 50
CALIBRATION_ITEMS = 200


def main() -> int:
    """Run the study and say what it shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds fsdd/recordings")
    parser.add_argument("--steps", type=int, default=500, help="training steps on the device")
    parser.add_argument("--speaker", default="jackson", help="who trains")
    parser.add_argument("--epochs", type=int, default=2, help="of pre-training")
    parser.add_argument("--target", default="qemu:mps2-an386")
    given = parser.parse_args()
    terminal = Terminal(as_json=False)
    try:
        data = datasets.load("fsdd", given.data_dir, FeatureConfig(max_frames=MAX_STEPS))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    board = parse_target(given.target).board
    if board is None or given.speaker not in data.speaker_names:
        print(f"error: no emulated board {given.target}, or no speaker {given.speaker} in fsdd", file=sys.stderr)
        return 2
    small = replace(board, ram_bytes=RAM_BYTES)

    others = data.select([name != given.speaker for name in data.speakers])
    config = FitConfig(n_hidden=N_HIDDEN, epochs=given.epochs, theta_x=DEFAULT_THETA, theta_h=DEFAULT_THETA)
    with terminal.bar("pre-training") as progress:
        float_model = fit(others, config, progress=epochs_shown(progress, config.epochs)).model
    model, _ = quantize(float_model, others.features[:: max(1, len(others) // CALIBRATION_ITEMS)])
    model = plan_memory(model)
    needed = ram_needed(model, small)
    rows = [(name, f"{size:,}") for name, size in needed.items()]
    terminal.show(table(("RAM in bytes, at most", ""), [*rows, ("total", f"{sum(needed.values()):,}")]))

    own = np.flatnonzero(np.array(data.speakers) == given.speaker)
    order = np.random.default_rng(0).permutation(own)
    samples = samples_of(model, data, np.resize(order, given.steps)).items
    with tempfile.TemporaryDirectory() as folder:
        built = export(model, small, Path(folder), terminal.say)
        with Emulator.start(small, built.elf) as emulator, Device.open(emulator.port, timeout=60) as device:
            engines: dict[str, Engine] = {
                "device": device,
                "host C": CoreNetwork(model),
                "integer reference": FixedNetwork(model),
            }
            with terminal.bar("training side by side") as progress:
                outcome = compare(engines, model, samples, Settings.of(model), with_float=False, progress=progress)
    losses = [step.loss for step in outcome.steps]
    print(f"{built.ram_bytes:,} bytes of RAM of {RAM_BYTES:,}, {float_model.n_parameters:,} parameters, {model.memory}")
    print(f"loss {np.mean(losses[:50]):.3f} over the first 50 steps, {np.mean(losses[-50:]):.3f} over the last")
    if outcome.first_difference is not None:
        print(f"first difference: {outcome.first_difference}")
    print(
        f"{len(outcome.steps)} steps, {outcome.words_compared} words compared, {outcome.words_different} words differ"
    )
    return int(outcome.words_different > 0)


if __name__ == "__main__":
    sys.exit(main())
