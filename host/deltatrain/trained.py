"""Models that a device has trained: weights between a device and a file, with the state that training goes on from.

Firmware is known by the hash of the model that it was exported from, its base. What it has trained since has other
weights and so another hash; a file of them names the base, and stands for it wherever a device is spoken to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from deltatrain.devices import AnyDevice
from deltatrain.errors import DeviceError, ModelError
from deltatrain.link.results import Config
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale
from deltatrain.training import Engine

PROVENANCE_KEY = "training"
_SCALES = ("learning_rate", "clip", "beta")


@dataclass(frozen=True)
class TrainingState:
    """What training goes on from beside the weights.

    Attributes
    ----------
    base : str
        Hash of the model that the firmware was exported from, hexadecimal.
    config : Config
        Rates, thresholds, seed and the number of the next step.
    """

    base: str
    config: Config

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        values = asdict(self.config)
        for name in _SCALES:
            scale: Scale = getattr(self.config, name)
            values[name] = [scale.m, scale.e]
        return {"base": self.base, **{name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TrainingState:
        """The inverse of `to_dict`; ModelError where that cannot be."""
        try:
            if len(bytes.fromhex(values["base"])) != 32:
                raise ValueError(f"base {values['base']}")
            return TrainingState(
                values["base"],
                Config(
                    **{name: Scale(*(int(part) for part in values[name])) for name in _SCALES},
                    theta_x=tuple(int(v) for v in values["theta_x"]),
                    theta_h=tuple(int(v) for v in values["theta_h"]),
                    seed=int(values["seed"]),
                    step=int(values["step"]),
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the state of training in the model's file is broken ({error!r}); pull it anew"
            ) from error


def state_of(model: QuantModel) -> TrainingState | None:
    """What a pulled model says of its training; None of one that no device has trained."""
    values = model.provenance.get(PROVENANCE_KEY)
    return None if values is None else TrainingState.from_dict(values)


def base_hash(model: QuantModel) -> bytes:
    """SHA-256 of the model that firmware was exported from: of a pulled one its base, else its own."""
    state = state_of(model)
    return model.hash() if state is None else bytes.fromhex(state.base)


def check_holds(device: AnyDevice, model: QuantModel) -> None:
    """DeviceError unless the firmware was exported from a model, or from what it was trained from."""
    if device.info.hash != model.hash():
        device.check_model(base_hash(model))


def pull(device: AnyDevice, model: QuantModel) -> QuantModel:
    """The model with the weights that a device has now, its plan of memory, and the state of its training.

    Parameters
    ----------
    model : QuantModel
        As `check_holds` takes it; what the device does not know (classes, features) comes from it.
    """
    tensors = weights_of(device, model)
    state = TrainingState(device.info.hash.hex(), device.config())
    return with_state(replace(model, memory=device.info.memory).with_tensors(tensors), state)


def with_state(model: QuantModel, state: TrainingState) -> QuantModel:
    """The model with another state of training in its file."""
    return replace(model, provenance={**model.provenance, PROVENANCE_KEY: state.to_dict()})


def push(device: AnyDevice, model: QuantModel) -> int:
    """Give a device a model's weights and, of a pulled model, its rates, thresholds, seed and step; the step.

    DeviceError when the device's firmware was exported from another model.
    """
    check_holds(device, model)
    put_weights(device, model)
    put_state(device, model)
    return device.config().step


def put_weights(engine: Engine, model: QuantModel) -> None:
    """Overwrite an engine's trained tensors."""
    for name, tensor in model.tensors().items():
        engine.set_tensor(name, tensor)


def put_state(engine: Engine, model: QuantModel) -> None:
    """Configure an engine as a pulled model was; nothing of one that no device has trained."""
    state = state_of(model)
    if state is None:
        return
    if len(state.config.theta_x) != len(model.layers):
        raise DeviceError(
            f"the model's file has thresholds of {len(state.config.theta_x)} layers; it has {len(model.layers)}"
        )
    engine.configure(**{name: getattr(state.config, name) for name in state.config.__dataclass_fields__})


def weights_of(engine: Engine, model: QuantModel) -> dict[str, NDArray[Any]]:
    """An engine's trained tensors by name, in the model's shapes."""
    return {name: engine.tensor(name).reshape(tensor.shape) for name, tensor in model.tensors().items()}
