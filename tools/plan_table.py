"""The planner's figures of docs/MEMORY.md: RAM by purpose of some networks, for training by each plan and to infer.

    python tools/plan_table.py [--target qemu:mps2-an386]

Sizes depend on dimensions alone, so the weights are zeros.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from deltatrain.features import FeatureConfig
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale
from deltatrain.targets import Board, parse_target
from deltatrain_codegen import for_inference, plan_memory, ram_needed

N_IN, N_CLASSES = 16, 10
# Cell, hidden units, steps.
NETWORKS = (("lstm", 64, 50), ("gru", 64, 50), ("lstm", 110, 50), ("lstm", 64, 400))
PURPOSES = ("weights", "history", "events", "checkpoints", "gradient", "scratch", "stack", "link", "other")


def network(cell: str, n_hidden: int, max_steps: int) -> QuantModel:
    """A model of these dimensions with a class at the last frame, all zero."""
    layer = QuantLayer(
        cell=cell,
        n_in=N_IN,
        n_hidden=n_hidden,
        x_frac_bits=11,
        wx_frac_bits=14,
        wh_frac_bits=14,
        c_frac_bits=11,
        theta_x=0,
        theta_h=0,
        weight=np.zeros((N_IN + n_hidden, N_GATES[cell] * n_hidden), np.int16),
        bias=np.zeros(N_ACCUMULATORS[cell] * n_hidden, np.int32),
    )
    return QuantModel(
        layers=(layer,),
        readout_frac_bits=13,
        readout_weight=np.zeros((N_CLASSES, n_hidden), np.int16),
        readout_bias=np.zeros(N_CLASSES, np.int32),
        max_steps=max_steps,
        learning_rate=Scale.from_float(0.16, "learning rate"),
        clip=Scale.from_float(2.0, "clip"),
        class_names=tuple(map(str, range(N_CLASSES))),
        features=FeatureConfig(),
    )


def rows(board: Board) -> list[str]:
    """Lines of a table in Markdown; the plan that `auto` takes is marked."""
    lines = [
        f"| network | T | memory for | {' | '.join(PURPOSES)} | total |",
        "|---|" + "---|" * (len(PURPOSES) + 3),
    ]
    for cell, n_hidden, max_steps in NETWORKS:
        model = network(cell, n_hidden, max_steps)
        chosen = plan_memory(model).memory
        plans = {
            "the whole history": plan_memory(model, "history"),
            "checkpoints": plan_memory(model, "checkpoints"),
            "inference": for_inference(model),
        }
        for name, planned in plans.items():
            memory, needed = planned.memory, ram_needed(planned, board)
            name += f" every {memory.segment_steps} frames" if memory.segment_steps else ""
            name = f"**{name}**" if memory == chosen else name
            sizes = " | ".join(f"{needed[purpose]:,}" if purpose in needed else "" for purpose in PURPOSES)
            lines.append(
                f"| {cell.upper()} {N_IN}→{n_hidden} | {max_steps} | {name} | {sizes} | {sum(needed.values()):,} |"
            )
    return lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="qemu:mps2-an386")
    board = parse_target(parser.parse_args().target).board
    if board is None:
        print("error: the target must be a board: see `deltatrain boards`", file=sys.stderr)
        return 2
    print("\n".join(rows(board)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
