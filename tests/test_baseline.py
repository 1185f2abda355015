"""The float32 network of `deltatrain bench` computes what the float64 reference computes, to float32's accuracy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deltatrain.bench.baseline import BaselineDevice, float_model
from deltatrain.bench.cases import LABEL, find_case
from deltatrain.bench.native import COMMON, FLOAT_FLAGS, FloatNaive
from deltatrain.errors import BuildError, DeviceError, InputError
from deltatrain.model import FloatModel
from deltatrain.reference.sgd import trained_bias_rows
from deltatrain.targets import Emulator, find_board
from deltatrain_codegen.baseline import export_baseline, flat_parameters

CELLS = ("lstm", "gru", "rnn")
RATE = 0.16
STRICT = ("-Wconversion", "-Werror")
# The first leaves every gradient whole.
CLIPS = (1e9, 0.5)


def reference_step(model: FloatModel, x: NDArray[np.float32], clip: float) -> tuple[float, NDArray[np.float64]]:
    """Loss and updated parameters of the dense reference, one bias an accumulator, clipped at the exact norm."""
    network = model.network()
    result = network.loss_and_gradients(x, LABEL)
    gradients = {name: gradient.copy() for name, gradient in result.grads.items()}
    for number, layer in enumerate(network.layers):
        bias = gradients[f"layer{number}.bias_hh"]
        trained = bias[trained_bias_rows(layer)].copy()
        bias[:] = 0.0
        bias[trained_bias_rows(layer)] = trained
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    for name, gradient in gradients.items():
        network.params[name] = network.params[name] - RATE * min(1.0, clip / norm) * gradient
    return result.loss, np.concatenate([tensor.ravel() for tensor in _tensors(model.with_network(network))])


def _tensors(model: FloatModel) -> list[NDArray[np.float64]]:
    """In the order of float_naive.h."""
    parts = [part for layer in model.layers for part in (layer.weight_ih, layer.weight_hh, layer.bias)]
    return [*parts, model.readout_weight, model.readout_bias]


def assert_same_step(
    model: FloatModel, loss: float, parameters: NDArray[np.float32], expected: tuple[float, NDArray[np.float64]]
) -> None:
    """Loss to 1e-5, and each parameter's step to 1e-4 of the largest and to what float32 can hold of it."""
    start = flat_parameters(model).astype(np.float64)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    step, wanted = parameters - start, expected[1] - start
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(step, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max() + 2.0**-23)


@pytest.mark.parametrize("flags", [(*COMMON, *STRICT), (*FLOAT_FLAGS, *STRICT)], ids=["precise", "fast-math"])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_on_the_pc_equals_the_reference(cell: str, n_layers: int, flags: tuple[str, ...]) -> None:
    case = find_case(cell, 5, 12, 20, 0.5, n_layers)
    model = float_model(case)
    for clip in CLIPS:
        network = FloatNaive(model, flags)
        loss = network.train(case.inputs, LABEL, RATE, clip)
        assert_same_step(model, loss, network.parameters, reference_step(model, case.inputs, clip))


@pytest.mark.parametrize("cell", CELLS)
def test_the_bench_s_own_case_on_the_pc_equals_the_reference(cell: str) -> None:
    case = find_case(cell, 16, 64, 50, 0.0)
    model = float_model(case)
    network = FloatNaive(model)
    loss = network.train(case.inputs, LABEL, RATE, 2.0)
    assert_same_step(model, loss, network.parameters, reference_step(model, case.inputs, 2.0))


@pytest.mark.parametrize(
    ("cell", "name"), [*((cell, "mps2-an386") for cell in CELLS), ("gru", "microbit"), ("lstm", "riscv32-virt")]
)
def test_a_step_on_a_board_equals_the_reference(cell: str, name: str, tmp_path: Path) -> None:
    board = find_board(name)
    if board is None or any(shutil.which(program) is None for program in board.needs):
        pytest.skip(f"the compiler or emulator of {name} is not installed; `make setup` installs it")
    case = find_case(cell, 4, 8, 10, 0.0, 1 if name == "microbit" else 2)
    model = float_model(case)
    built = export_baseline(model, board, tmp_path)
    assert built.ram_bytes == sum(built.ram.values())
    with Emulator.start(board, built.elf) as emulator, BaselineDevice(emulator.port, 30.0, board.name) as device:
        device.send(case.inputs)
        for clip in CLIPS:  # each starts from the initial parameters
            done = device.train(case.steps, LABEL, RATE, clip)
            parameters = device.parameters(flat_parameters(model).size)
            assert_same_step(model, done.loss, parameters, reference_step(model, case.inputs, clip))
        assert 100 < done.stack_high_water < board.stack_bytes
        with pytest.raises(DeviceError, match="refused BASELINE_TRAIN"):
            device.train(case.steps + 1, LABEL, RATE, 1.0)


def test_a_network_that_does_not_fit_a_board_is_refused_with_a_way_out(tmp_path: Path) -> None:
    board = find_board("microbit")
    if board is None or shutil.which(board.compiler) is None:
        pytest.skip("the board's compiler is not installed; `make setup` installs it")
    with pytest.raises(BuildError, match=r"bytes too large for the RAM of qemu:microbit; give fewer"):
        export_baseline(float_model(find_case("lstm", 16, 64, 50, 0.0)), board, tmp_path)


def test_a_sample_that_does_not_fit_is_refused() -> None:
    case = find_case("gru", 3, 4, 6, 0.0)
    network = FloatNaive(float_model(case))
    with pytest.raises(InputError, match=r"float32\[1 to 6, 3\]"):
        network.train(np.zeros((7, 3), np.float32), LABEL, RATE, 1.0)
