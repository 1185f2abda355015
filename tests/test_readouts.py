"""Readouts at every frame: pre-training, data with targets of their own, fixed point against float, the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from equality import random_model
from numpy.typing import NDArray

from deltatrain import datasets
from deltatrain.cli import main
from deltatrain.comparison import FloatShadow, compare
from deltatrain.datasets import Dataset, personal_split, pretrain_split
from deltatrain.errors import DataError, InputError, ModelError
from deltatrain.features import FeatureConfig, standardise
from deltatrain.fixed import FixedNetwork
from deltatrain.model import FloatModel
from deltatrain.pretrain import Augmentation, FitConfig, evaluate, fit
from deltatrain.pretrain.network import FlatTensors, Shape, run
from deltatrain.pretrain.packing import pack
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import dequantize, quantize
from deltatrain.readouts import NO_CLASS, TargetScale
from deltatrain.reference import READOUT_KINDS
from deltatrain.samples import samples_of
from deltatrain.scale import Scale
from deltatrain.thresholds import per_layer
from deltatrain.training import Engine, Sample, Settings
from deltatrain.training import evaluate as evaluate_engine
from deltatrain.training import train as train_engine
from deltatrain_core import CoreNetwork

N_IN, K = 4, 3
Array = NDArray[np.float64]
CONFIG = FitConfig(n_hidden=16, epochs=12, batch_size=8, learning_rate=2e-2, theta_x=0.1, theta_h=0.05, seed=1)


def walk(rng: np.random.Generator, n_steps: int) -> Array:
    """A smooth signal of N_IN channels."""
    phase, rate = rng.uniform(0, 6, N_IN), rng.uniform(0.05, 0.4, N_IN)
    return np.sin(phase + rate * np.arange(n_steps)[:, None]) + rng.normal(0, 0.02, (n_steps, N_IN))


def targets_of(kind: str, x: Array) -> NDArray[Any]:
    """What can be told of each frame from it and those before: which channel was largest lately, or running means."""
    lately = np.array([x[max(0, t - 3) : t + 1].mean(axis=0) for t in range(len(x))])[:, :K]
    return lately.argmax(axis=1) if kind == "frames" else 40.0 * lately + np.arange(K) * 100.0


def own_set(kind: str, count: int = 60, seed: int = 0) -> Dataset:
    """Sequences with targets of their own, of three speakers."""
    rng = np.random.default_rng(seed)
    items = [walk(rng, int(rng.integers(20, 40))) for _ in range(count)]
    return Dataset(
        name="own",
        features=tuple(x.astype(np.float32) for x in items),
        labels=np.zeros(count, np.int64),
        speakers=tuple("abc"[i % 3] for i in range(count)),
        indices=np.arange(count) // 3,
        class_names=("p", "q", "r"),
        config=FeatureConfig(n_bands=N_IN, max_frames=40),
        targets=tuple(targets_of(kind, x) for x in items),
    )


# ---- pre-training


def model_of(readout: str, cell: str = "lstm") -> FloatModel:
    """A model that nobody trained."""
    quantized = random_model(np.random.default_rng(3), N_IN, 6, K, 12, 1.0, [cell], readout)
    layer = replace(quantized.layers[0], x_frac_bits=12, theta_x=400, theta_h=800)
    features = FeatureConfig(n_bands=N_IN, mean=(0.1,) * N_IN, std=(0.5,) * N_IN)
    return replace(dequantize(replace(quantized, layers=(layer,))), features=features)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_batch_loss_and_gradients_are_the_reference_s(readout: str, cell: str) -> None:
    """Sequences of unlike length, some of whose frames have no target; the readout's and the first layer's gradient."""
    rng = np.random.default_rng(4)
    model = model_of(readout, cell)
    sequences = [walk(rng, t) for t in (7, 1, 12, 4, 9)]
    targets: list[Any] = [int(k) for k in rng.integers(0, K, len(sequences))]
    if readout != "last":
        targets = [targets_of(readout, x) / (1 if readout == "frames" else 100) for x in sequences]
    if readout == "frames":
        targets = [item.astype(np.int64) for item in targets]
        targets[0][2:5] = NO_CLASS
        targets[3][:3] = NO_CLASS
    network = model.network(0.01)
    results = [network.loss_and_gradients(x, target) for x, target in zip(sequences, targets, strict=True)]

    shape = Shape.of(model)
    params, grads = FlatTensors(shape, np.float64, model.tensors()), FlatTensors(shape, np.float64)
    rows, packing = pack(sequences, np.float64)
    wanted = np.array(targets) if readout == "last" else targets
    result = run(shape, params, rows, packing, wanted, beta=0.01, grads=grads)
    assert result.loss == pytest.approx(np.mean([one.loss for one in results]), rel=1e-12)
    at_last = [one.out if readout == "last" else one.out[-1] for one in results]
    np.testing.assert_allclose(result.logits, at_last, rtol=1e-11)
    for name in ("layer0.weight_ih", "layer0.weight_hh", "readout.weight", "readout.bias"):
        exact = np.mean([one.grads[name] for one in results], axis=0)
        np.testing.assert_allclose(grads.by_name[name], exact, rtol=0, atol=1e-10, err_msg=name)
    if readout == "frames":
        judged = [(one.out[t == t], t) for one, t in zip(results, targets, strict=True)]
        wrong = sum(int((out.argmax(axis=1) != t)[t != NO_CLASS].sum()) for out, t in judged)
        assert (result.judged.n_targets, result.judged.n_wrong) == (33 - 6, wrong)


@pytest.mark.parametrize("kind", ["frames", "regression"])
def test_fit_learns_the_data_s_own_targets(kind: str) -> None:
    """The kind follows from the data; a regression learns in its values' own units."""
    training, test = own_set(kind), own_set(kind, 30, seed=1)
    fitted = fit(training, CONFIG, validation=test)
    model = fitted.model
    assert model.readout == kind
    assert fitted.history[-1].loss < 0.5 * fitted.history[0].loss
    outcome = evaluate(model, test.features, test.labels, targets=test.targets)
    assert outcome.error == fitted.history[-1].validation_error == model.provenance["error"]
    assert outcome.error < (0.25 if kind == "frames" else 0.5)
    # By the reference, in real units.
    network = model.network()
    wrong, squares, frames = 0, 0.0, 0
    assert test.targets is not None
    for x, target in zip(test.features, test.targets, strict=True):
        out, _ = network.forward(standardise(x, model.features))
        frames += len(x)
        if kind == "frames":
            wrong += int((out.argmax(axis=1) != target).sum())
        else:
            std = np.concatenate([*(training.targets or ())]).std(axis=0)
            assert np.allclose(model.target_scale.std, std)
            squares += float((((out * std + model.target_scale.mean - target) / std) ** 2).mean(axis=1).sum())
    assert outcome.error == pytest.approx(wrong / frames if kind == "frames" else (squares / frames) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_labelled_utterances_serve_every_readout(readout: str) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, K, 90)
    features = tuple((walk(rng, 20) * 0.3 + np.eye(K, N_IN)[label]).astype(np.float32) for label in labels)
    data = replace(own_set("frames", 90), features=features, labels=labels, targets=None)
    model = fit(data, replace(CONFIG, readout=readout, augmentation=Augmentation(speed=0.2))).model
    assert (model.readout, model.target_scale) == (readout, TargetScale())
    assert evaluate(model, data.features, data.labels).error < 0.1


def test_fit_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="use a model with `regression`"):
        fit(own_set("regression"), replace(CONFIG, readout="frames"))
    with pytest.raises(InputError, match="use a model with `frames`"):
        fit(own_set("frames"), replace(CONFIG, readout="last"))
    start = fit(own_set("frames"), replace(CONFIG, epochs=1)).model
    with pytest.raises(InputError, match="has the readout frames, this training regression"):
        fit(own_set("regression"), CONFIG, warm_start=start)
    with pytest.raises(InputError, match="readout 'first' is unknown"):
        replace(CONFIG, readout="first")
    with pytest.raises(ModelError, match="scales 2 targets"):
        replace(start, target_scale=TargetScale((0.0, 0.0), (1.0, 1.0)))


def test_thresholds_are_one_for_all_layers_or_one_for_each() -> None:
    assert per_layer(0.3, 2, "theta_x") == per_layer((0.3,), 2, "theta_x") == (0.3, 0.3)
    assert per_layer((0.3, 0.1), 2, "theta_x") == (0.3, 0.1)
    with pytest.raises(InputError, match="theta_x has 2 values and the network 3 layers"):
        per_layer((0.3, 0.1), 3, "theta_x")
    stacked = replace(CONFIG, n_layers=2, theta_x=(0.2, 0.1), theta_h=(0.05,), epochs=1)
    model = fit(own_set("frames"), stacked).model
    assert [(layer.theta_x, layer.theta_h) for layer in model.layers] == [(0.2, 0.05), (0.1, 0.05)]
    quantized, _ = quantize(model, own_set("frames").features)
    settings = Settings.of(quantized, theta_x=(0.5, 0.25))
    assert settings.theta_x == (round(0.5 * 2 ** quantized.layers[0].x_frac_bits), 2**12)
    assert settings.theta_h == tuple(layer.theta_h for layer in quantized.layers)
    with pytest.raises(InputError, match="theta_h has 3 values and the network 2 layers"):
        Settings.of(quantized, theta_h=(0.1, 0.1, 0.1))


# ---- fixed point


def quantized_of(kind: str) -> tuple[QuantModel, Dataset]:
    """A model that has seen its data a little, and data that it has not."""
    model = fit(own_set(kind), replace(CONFIG, epochs=1)).model
    return quantize(model, own_set(kind).features, clip=1.0)[0], own_set(kind, 40, seed=9)


@pytest.mark.parametrize("kind", ["frames", "regression"])
def test_an_engine_is_judged_by_the_data_s_own_targets(kind: str) -> None:
    """The error that the C core finds is the float model's, but for rounding; training lowers it."""
    model, data = quantized_of(kind)
    train, test = (samples_of(model, data, items).items for items in (range(25), range(25, 40)))
    core = CoreNetwork(model)
    before = evaluate_engine(core, test, K)
    chosen = data.select(range(25, 40))
    exact = evaluate(dequantize(model), chosen.features, chosen.labels, targets=chosen.targets)
    assert before.error == pytest.approx(exact.error, abs=0.03)
    others = before.to_dict()
    if kind == "frames":
        assert others == {"error": before.frame_error, "frame_error": before.frame_error}
    else:
        assert others["error"] == pytest.approx(others["mean_squared_error"] ** 0.5)
    steps = [step for _ in range(4) for step in train_engine(core, train)]
    assert np.mean([s.error for s in steps[-25:]]) < np.mean([s.error for s in steps[:25]])
    assert evaluate_engine(core, test, K).error < before.error


@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_fixed_point_training_follows_float(readout: str) -> None:
    """Twenty steps with no threshold, which rounding could flip: weights stay within 3 % of the way that they went."""
    rng = np.random.default_rng(8)
    model = random_model(rng, N_IN, 10, K, 30, 1.0, ["gru"], readout)
    layer = replace(model.layers[0], x_frac_bits=12, wx_frac_bits=14, wh_frac_bits=14, theta_x=0, theta_h=0)
    layer = replace(layer, weight=rng.normal(0, 3000, layer.weight.shape).astype(np.int16))
    rate, clip = Scale.from_float(0.1, "learning rate"), Scale.from_float(2.0, "clip")
    model = replace(model, layers=(layer,), readout_frac_bits=14, learning_rate=rate, clip=clip)
    samples = []
    for number in range(20):
        x = walk(rng, 30)
        targets = None if readout == "last" else targets_of(readout, x)
        if readout == "regression":
            targets = (np.asarray(targets) - np.arange(K) * 100.0) / 40 * 65536
        frames = np.rint(x * 2**12).astype(np.int16)
        samples.append(Sample(frames, number % K, str(number), None if targets is None else targets.astype(np.int32)))
    engines: dict[str, Engine] = {"C core": CoreNetwork(model), "integers": FixedNetwork(model)}
    outcome = compare(engines, model, samples, Settings.of(model))
    assert outcome.words_different == 0
    assert outcome.float_error is not None and outcome.float_error < 2e-3
    assert outcome.float_weight_error is not None and outcome.float_weight_error < 0.03
    losses = [step.loss for step in outcome.steps]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_float_shadow_passes_over_frames_without_a_target() -> None:
    model = random_model(np.random.default_rng(8), N_IN, 6, K, 30, 1.0, readout="frames")
    targets = np.full(10, NO_CLASS, np.int32)
    targets[4] = 1
    x = np.rint(walk(np.random.default_rng(1), 10) * 500).astype(np.int16)
    core = CoreNetwork(model)
    core.begin()
    sample = Sample(x, 0, "", targets)
    hidden = core.push(x, targets=targets)
    FloatShadow(model, Settings.of(model)).step(sample, hidden)
    assert core.learn().n_targets == 1


# ---- sequences of a user's own


def write(folder: Path, kind: str, count: int = 12, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = own_set(kind, count, seed)
    for number in range(count):
        item = data[number]
        assert item.targets is not None
        np.savez(folder / f"{item.speaker}_{item.index:02d}.npz", x=item.features, targets=item.targets)


@pytest.mark.parametrize("kind", ["frames", "regression"])
def test_a_folder_of_sequences_is_a_data_set(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "own", kind)
    data = datasets.load(str(tmp_path / "own"))
    assert (len(data), data.name, data.speaker_names) == (12, "own", ("a", "b", "c"))
    assert data.judged_by == ("frames" if kind == "frames" else "values")
    assert data.class_names == ("0", "1", "2") and data.groups == ("recording",)
    assert data.config.n_bands == N_IN and data.config.max_frames == max(len(x) for x in data.features)
    expected = own_set(kind, 12)
    assert data[1].speaker == "a" and data[1].index == 1
    assert expected.targets is not None
    np.testing.assert_array_equal(data[1].targets, expected.targets[3])  # files are taken by name
    (tmp_path / "own" / "names.txt").write_text("left\nright\nup\n")
    assert datasets.load(str(tmp_path / "own")).class_names == ("left", "right", "up")
    train, test = personal_split(data, "b", 2, seed=0)
    assert (len(train), len(test)) == (2, 2) and set(train) | set(test) == set(range(4, 8))
    training, validation = pretrain_split(data, ["b"], 0.25, seed=0)
    assert (len(training), len(validation)) == (6, 2)


def test_a_model_s_limit_cuts_sequences_and_their_targets(tmp_path: Path) -> None:
    write(tmp_path / "own", "regression")
    data = datasets.load(str(tmp_path / "own"), config=FeatureConfig(n_bands=N_IN, max_frames=10))
    assert data.targets is not None
    assert {len(x) for x in data.features} == {len(t) for t in data.targets} == {10} and data.n_cut == 12
    fewer = datasets.load(str(tmp_path / "own"), max_frames=5)
    assert {len(x) for x in fewer.features} == {5} and fewer.config.max_frames == 5


X = np.zeros((5, N_IN))
BAD_SEQUENCES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no speaker": ("nobody.npz", {"x": X, "targets": np.zeros(5)}, "does not say whose"),
    "no x": ("a_1.npz", {"targets": np.zeros(5)}, "holds no array x"),
    "neither": ("a_1.npz", {"y": np.zeros(5)}, "no array x and no targets"),
    "flat x": ("a_1.npz", {"x": np.zeros(5), "targets": np.zeros(5)}, r"x is float64\[5\]"),
    "no frame": ("a_1.npz", {"x": X[:0], "targets": np.zeros(0)}, "T at least 1"),
    "texts": ("a_1.npz", {"x": X, "targets": np.array(["u"] * 5)}, r"targets are <U1\[5\]"),
    "integers of two axes": ("a_1.npz", {"x": X, "targets": np.zeros((5, 2), int)}, r"targets are int64\[5, 2\]"),
    "lengths": ("a_1.npz", {"x": X, "targets": np.zeros(4)}, "x has 5 frames and targets 4"),
    "NaN": ("a_1.npz", {"x": np.where(np.eye(5, N_IN), np.nan, 0), "targets": np.zeros(5)}, r"x\[0, 0\] is nan"),
    "NaN target": ("a_1.npz", {"x": X, "targets": np.array([0, 0, np.nan, 0, 0])}, r"targets\[2, 0\] is nan"),
    "label below": ("a_1.npz", {"x": X, "targets": np.full(5, -2)}, r"targets are -2 \.\. -2"),
    "label above": ("a_1.npz", {"x": X, "targets": np.full(5, 256)}, "classes are 0 to 255"),
    "no label": ("a_1.npz", {"x": X, "targets": np.full(5, -1)}, "no frame has a class"),
    "too many values": ("a_1.npz", {"x": X, "targets": np.zeros((5, 257))}, "there may be 1 to 256"),
    "too many inputs": ("a_1.npz", {"x": np.zeros((5, 1025)), "targets": np.zeros(5)}, "1025 inputs; there may be 1"),
    "another width": (
        "b_1.npz",
        {"x": np.zeros((5, 7)), "targets": np.zeros(5, int)},
        "has 7 inputs a frame, .* 4 inputs a frame; all",
    ),
    "another kind": ("b_1.npz", {"x": X, "targets": np.zeros(5)}, "1 target values a frame, .* a class a frame"),
}


@pytest.mark.parametrize("case", BAD_SEQUENCES)
def test_sequences_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    name, arrays, complaint = BAD_SEQUENCES[case]
    if case.startswith("another"):
        np.savez(tmp_path / "a_0.npz", x=X, targets=np.arange(5) % 2)
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(DataError, match=complaint):
        datasets.load(str(tmp_path))


def test_a_damaged_file_a_foreign_width_and_too_few_names(tmp_path: Path) -> None:
    (tmp_path / "a_0.npz").write_bytes(b"PK but no more")
    with pytest.raises(DataError, match="not a whole npz file"):
        datasets.load(str(tmp_path))
    write(tmp_path, "frames")
    (tmp_path / "a_0.npz").unlink()
    with pytest.raises(DataError, match="the model takes 9"):
        datasets.load(str(tmp_path), config=FeatureConfig(n_bands=9))
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"2 names, the targets have 3 classes; name each, one a line$"):
        datasets.load(str(tmp_path))
    for path in tmp_path.glob("*.npz"):
        path.unlink()
    np.savez(tmp_path / "a_1.npz", x=X, targets=np.zeros(5, int))
    (tmp_path / "names.txt").write_text("one\n")
    with pytest.raises(DataError, match="1 names, the targets have 1 classes, and a model takes at least 2; name each"):
        datasets.load(str(tmp_path))


# ---- the commands


def command(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def as_json(*arguments: object) -> Any:
    return json.loads(command(*arguments, "--json").stdout)


@pytest.mark.parametrize("kind", ["frames", "regression"])
def test_the_main_job_on_data_with_targets_of_their_own(
    kind: str, tmp_path: Path, needs_emulator: Callable[[], None]
) -> None:
    """From a folder of files to a trained device: every word compared, the error falling, a report."""
    needs_emulator()
    write(tmp_path / "own", kind, 36)
    told = as_json(
        *("demo", "--data", tmp_path / "own", "--holdout", "b", "--per-class", 6, "--epochs", 3),
        *("--hidden", 12, "--layers", 2, "--theta-x", "0.2,0.1", "--theta-h", "0.05", "--fit-epochs", 4),
        *("--out", tmp_path / "out"),
    )
    assert (told["words_different"], told["readout"], told["train_steps"]) == (0, kind, 18)
    assert told["words_compared"] > 40_000
    assert told["theta_x_of_layers"] == pytest.approx([0.2, 0.1], abs=1e-3)
    assert told["error_after"] < told["error_before"]
    if kind == "frames":
        assert told["frame_error_after"] == told["error_after"]
    else:
        assert told["mean_squared_error_after"] ** 0.5 == pytest.approx(told["error_after"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "0.2,0.1" in page and "at every frame" in page and "confusion-before" not in page


@pytest.mark.parametrize("kind", ["frames", "regression"])
def test_errors_and_items_are_told_in_the_data_s_own_words(kind: str, tmp_path: Path) -> None:
    """From `fit` to `evaluate`: a unit that fits the readout, and one word for what the data consist of."""
    write(tmp_path / "own", kind)
    model = tmp_path / "m.safetensors"
    data = ("--data", tmp_path / "own")
    outputs = [command("fit", *data, "--holdout", "b", "--epochs", 1, "--hidden", 8, "--out", model, "--max-frames", 9)]
    outputs += [command("quantize", *data, "--model", model)]
    assert re.search(r"^layer0\.c .* – +0$", outputs[-1].stdout, flags=re.MULTILINE)
    pushed = tmp_path / "m-int16.safetensors"
    assert QuantModel.load(pushed).max_steps == 9
    outputs += [command("evaluate", *data, "--model", pushed, "--target", "host", "--holdout", "b", "--per-class", 1)]
    unit = r"\d+\.\d %" if kind == "frames" else r"\d\.\d{3} std\. dev\."
    for output in outputs:
        assert "utterances" not in output.output and "sequences" in output.output
    assert all(re.search(rf"error {unit} on ", outputs[i].stdout) for i in (0, 2))
    assert "longer than 9 frames and lost their end (--max-frames)" in outputs[0].stderr


@pytest.fixture
def needs_emulator() -> Callable[[], None]:
    def check() -> None:
        import shutil

        for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed; `make setup` installs it")

    return check


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--theta", "0.3,0.2"), "theta_x has 2 values and the network 1 layer;"),
        (("--theta-h", "0.3,0.2,0.1", "--layers", 2), "theta_h has 3 values and the network 2 layers"),
        (("--theta", "0.3;0.2"), "'0.3;0.2' is no number"),
        (("--theta-x", "-0.3"), "theta_x is -0.3"),
        (("--readout", "last"), "use a model with `frames`"),
        (("--readout", "regression"), "use a model with `frames`"),
    ],
)
def test_bad_thresholds_and_readouts_are_told(arguments: tuple[object, ...], complaint: str, tmp_path: Path) -> None:
    write(tmp_path / "own", "frames")
    out = tmp_path / "model.safetensors"
    result = command("fit", "--data", tmp_path / "own", "--epochs", 1, "--out", out, *arguments, status=2)
    assert complaint in result.stderr and not out.exists()
