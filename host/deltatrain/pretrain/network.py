"""A stack with its readout over a packed batch: loss, gradients and counts, on one flat parameter vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.model import N_ACCUMULATORS, N_GATES, FloatModel
from deltatrain.pretrain import cells
from deltatrain.pretrain.cells import Array
from deltatrain.pretrain.losses import Judged, Targets, judge, read_rows
from deltatrain.pretrain.packing import Packing
from deltatrain.reference import OperationCount


@dataclass(frozen=True)
class Shape:
    """Everything about the network but its parameters: one cell, size and pair of thresholds a layer."""

    cells: tuple[str, ...]
    n_in: int
    n_hidden: tuple[int, ...]
    n_classes: int
    theta_x: tuple[float, ...]
    theta_h: tuple[float, ...]
    readout: str = "last"

    @staticmethod
    def of(model: FloatModel) -> Shape:
        """The shape of a model."""
        return Shape(
            cells=tuple(layer.cell for layer in model.layers),
            n_in=model.n_in,
            n_hidden=tuple(layer.n_hidden for layer in model.layers),
            n_classes=model.n_outputs,
            theta_x=tuple(layer.theta_x for layer in model.layers),
            theta_h=tuple(layer.theta_h for layer in model.layers),
            readout=model.readout,
        )

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors, as in a model file."""
        shapes: dict[str, tuple[int, ...]] = {}
        below = self.n_in
        for index, (cell, h) in enumerate(zip(self.cells, self.n_hidden, strict=True)):
            shapes[f"layer{index}.weight_ih"] = (N_GATES[cell] * h, below)
            shapes[f"layer{index}.weight_hh"] = (N_GATES[cell] * h, h)
            shapes[f"layer{index}.bias"] = (N_ACCUMULATORS[cell] * h,)
            below = h
        return shapes | {"readout.weight": (self.n_classes, below), "readout.bias": (self.n_classes,)}


class FlatTensors:
    """Named tensors as views into one vector, so that the optimiser works on that vector alone."""

    def __init__(self, shape: Shape, dtype: npt.DTypeLike, values: Mapping[str, Array] | None = None) -> None:
        shapes = shape.tensor_shapes()
        self.flat: Array = np.zeros(sum(int(np.prod(s)) for s in shapes.values()), dtype)
        self.by_name: dict[str, Array] = {}
        start = 0
        for name, tensor_shape in shapes.items():
            size = int(np.prod(tensor_shape))
            self.by_name[name] = self.flat[start : start + size].reshape(tensor_shape)
            if values is not None:
                self.by_name[name][...] = values[name]
            start += size

    def layer(self, index: int) -> cells.Parameters:
        """The tensors of one layer."""
        name = f"layer{index}"
        return cells.Parameters(
            self.by_name[f"{name}.weight_ih"], self.by_name[f"{name}.weight_hh"], self.by_name[f"{name}.bias"]
        )


@dataclass(frozen=True)
class BatchResult:
    """Loss and counts of a batch, sequences in the order they were given.

    Attributes
    ----------
    loss : float
        Mean over the sequences, regulariser included.
    logits : ndarray, shape (B, n_classes)
        Outputs at each sequence's own last frame.
    operations : OperationCount
        Summed over the sequences.
    judged : Judged
        Of the readout alone, with its counts of targets.
    """

    loss: float
    logits: Array
    operations: OperationCount
    judged: Judged


def run(
    shape: Shape,
    params: FlatTensors,
    rows: Array,
    packing: Packing,
    targets: Targets,
    *,
    beta: float = 0.0,
    grads: FlatTensors | None = None,
) -> BatchResult:
    """Forward, the readout's mean loss, and gradients if `grads` is given to hold them.

    Parameters
    ----------
    rows : ndarray, shape (N, n_in)
        Packed frames, in the type of the parameters.
    targets : ndarray of int, shape (B,), or sequence of ndarray
        Labels, or for a readout at every frame each sequence's classes (T,) or values (T, K), in the order given to the
        packing.
    """
    tapes: list[cells.Tape] = []
    below = rows
    for index, cell in enumerate(shape.cells):
        tapes.append(
            cells.forward(cell, params.layer(index), below, packing, shape.theta_x[index], shape.theta_h[index])
        )
        below = tapes[-1].hidden
    weight, bias = params.by_name["readout.weight"], params.by_name["readout.bias"]
    read_at = read_rows(shape.readout, packing)
    read = below[read_at]
    outputs = read @ weight.T + bias
    judged = judge(shape.readout, outputs, targets, packing)
    loss = judged.loss
    if beta:
        moved = sum(_travelled(tape.h.values, packing) for tape in tapes)
        loss += beta * moved / packing.batch
    if grads is not None:
        np.matmul(judged.d_outputs.T, read, out=grads.by_name["readout.weight"])
        grads.by_name["readout.bias"][...] = judged.d_outputs.sum(axis=0)
        dh = np.zeros_like(below)
        dh[read_at] = judged.d_outputs @ weight
        for index in reversed(range(len(tapes))):
            dx = cells.backward(
                shape.cells[index],
                params.layer(index),
                grads.layer(index),
                tapes[index],
                packing,
                dh,
                beta / packing.batch,
                need_dx=index > 0,
            )
            dh = dh if dx is None else dx
    at_last = outputs if shape.readout == "last" else outputs[packing.last_rows()]
    in_order = np.empty_like(at_last)
    in_order[packing.order] = at_last
    return BatchResult(loss, in_order, count_operations(shape, tapes, packing), judged)


def _travelled(v_hat: Array, packing: Packing) -> float:
    """Σ|v̂_t − v̂_{t-1}|."""
    return float(np.abs(v_hat - cells.before(v_hat, packing)).sum(dtype=np.float64))


def count_operations(shape: Shape, tapes: Sequence[cells.Tape], packing: Packing) -> OperationCount:
    """MACs of training on this batch, as `reference.count_operations` counts a sample."""
    total = OperationCount()
    for index, tape in enumerate(tapes):
        n_in, h = tape.x.values.shape[1], shape.n_hidden[index]
        rows = N_GATES[shape.cells[index]] * h
        active_x, active_h = tape.x.active(), tape.h.active()
        total += OperationCount(
            executed=3 * rows * (active_x + active_h),
            dense=3 * rows * (n_in + h) * packing.rows,
            executed_dx=rows * active_x if index == 0 else 0,
            dense_dx=rows * n_in * packing.rows if index == 0 else 0,
        )
    return total
