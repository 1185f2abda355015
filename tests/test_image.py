"""Files of models and of weights: their page against the header, what the host writes, and what nobody may read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from equality import random_exemplars, random_model
from struct_tables import layout, tables

import deltatrain_core
from deltatrain import image
from deltatrain.cli import main
from deltatrain.errors import ModelError
from deltatrain.link import protocol
from deltatrain.memory import Memory
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale

PAGE = (Path(__file__).parent.parent / "docs" / "MODEL_FILE.md").read_text(encoding="utf-8")
TABLES = tables(PAGE)
NAMES = {"drnn_scale_t": "scale", "drnn_config_t": "config"}  # as the page calls them


def test_each_struct_of_the_header_stands_on_the_page() -> None:
    header = (deltatrain_core.include_dir() / "drnn_image.h").read_text(encoding="utf-8")
    structs = set(re.findall(r"\} (drnn_\w+_t);", header))
    assert structs and structs <= set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_page_gives_each_fields_place(name: str) -> None:
    size, rows = TABLES[name]
    assert (size, rows) == layout(name, NAMES)
    ends = [at + protocol.field_size(name, field) for at, _, field in rows]
    assert [at for at, _, _ in rows] == [0, *ends[:-1]]  # no holes
    assert size == ends[-1]


def smallest_model(make: Callable[..., QuantModel]) -> QuantModel:
    """The model of the page's example."""
    return make(n_in=1, n_hidden=1, max_steps=8, class_names=("no", "yes"), cells=("rnn",))


def test_the_pages_example_is_what_the_host_writes(make_integer_model: Callable[..., QuantModel]) -> None:
    data = image.encode(smallest_model(make_integer_model))
    lines = PAGE.split("## A worked example")[1].split("```")[1].strip("\n").splitlines()
    assert lines == [f"{at:3d}  {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16)]


@pytest.fixture(params=range(4))
def any_model(request: pytest.FixtureRequest) -> QuantModel:
    """Random models, with exemplars and plans of memory."""
    rng = np.random.default_rng(request.param)
    cells = (["rnn"], ["gru"], ["lstm"], ["gru", "rnn", "lstm"])[request.param]
    readout = ("last", "frames", "regression", "last")[request.param]
    model = random_model(rng, 5, 6, 3, 12, 1.0, cells, readout)
    if request.param % 2:
        model = replace(model, replay=random_exemplars(rng, model))
    return replace(model, memory=Memory("checkpoints", 4, 20000) if request.param == 3 else Memory())


def test_a_model_comes_back_from_its_file(any_model: QuantModel) -> None:
    data = image.encode(any_model)
    back = image.decode(data)
    assert back.hash() == any_model.hash()
    assert (back.class_names, back.memory, back.max_steps) == (
        any_model.class_names,
        any_model.memory,
        any_model.max_steps,
    )
    assert image.encode(back) == data == image.encode(any_model)
    assert len(data) % 8 == 0


def test_arrays_lie_at_multiples_of_eight(any_model: QuantModel) -> None:
    data = image.encode(any_model)
    head = protocol.unpack("drnn_image_t", data)
    names = ("readout_weight", "readout_bias", "names", "replay_events", "replay_start", "replay_steps", "replay_label")
    places = [int(getattr(head, name)) for name in names]
    for number in range(head.n_layers):
        layer = protocol.unpack("drnn_image_layer_t", data[108 + 24 * number :])
        places += [layer.weight, layer.bias]
    assert all(place % 8 == 0 for place in places)


def some_state(model: QuantModel) -> image.State:
    """Weights that differ from the model's, and settings that differ from the defaults."""
    tensors = {name: tensor + 1 for name, tensor in model.tensors().items()}
    n = len(model.layers)
    return image.State(
        model.with_tensors(tensors),
        Scale(40000, -20),
        Scale(50000, -15),
        Scale(0, 0),
        (7,) * n,
        (9,) * n,
        2**32 - 1,
        41,
    )


def test_weights_come_back_from_their_file(any_model: QuantModel) -> None:
    state = some_state(any_model)
    data = image.encode_state(state, any_model)
    back = image.decode_state(data, any_model)
    assert image.encode_state(back, any_model) == data
    for name, tensor in state.model.tensors().items():
        assert (back.model.tensors()[name] == tensor).all()
    assert replace(back, model=state.model) == state


def test_weights_of_another_model_are_refused(tiny_model: QuantModel) -> None:
    data = image.encode_state(some_state(tiny_model), tiny_model)
    with pytest.raises(ModelError, match="another model"):
        image.decode_state(data, replace(tiny_model, max_steps=7))


@pytest.mark.parametrize("kind", ["model", "weights"])
def test_no_damaged_file_is_read(tiny_model: QuantModel, kind: str) -> None:
    model = smallest = tiny_model
    data = image.encode(model) if kind == "model" else image.encode_state(some_state(model), model)

    def read(changed: bytes) -> object:
        return image.decode(changed) if kind == "model" else image.decode_state(changed, smallest)

    read(data)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(ModelError):
            read(bytes(changed))
    for length in range(0, len(data), 7):
        with pytest.raises(ModelError):
            read(data[:length])


def test_other_versions_are_told_apart_from_damage(tiny_model: QuantModel) -> None:
    data = bytearray(image.encode(tiny_model))
    data[4] += 1
    data[12:16] = zlib.crc32(data[16:]).to_bytes(4, "little")
    with pytest.raises(ModelError, match="of version 2"):
        image.decode(bytes(data))


def test_export_writes_the_file(tiny_model: QuantModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "m.safetensors")
    arguments = ["export", "--model", str(tmp_path / "m.safetensors"), "--image", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--plan", "history", "--json"])
    assert done.exit_code == 0, done.output
    written = (tmp_path / "out" / "model.drnn").read_bytes()
    assert written == image.encode(tiny_model)
    assert CliRunner().invoke(main, [*arguments, "--library"]).exit_code == 2
