"""What can train: deltatrain's own firmware at the other end of a line, or a board with MicroPython."""

from __future__ import annotations

from deltatrain.errors import DeviceError
from deltatrain.link import Device
from deltatrain.link.results import Committed
from deltatrain.micropython import MicroPythonDevice

AnyDevice = Device | MicroPythonDevice


def store_of(device: AnyDevice) -> str:
    """The non-volatile store of the firmware, as its hello tells: none, empty or loaded."""
    return device.info.store if isinstance(device, Device) else "none"


def boot_id_of(device: AnyDevice) -> int | None:
    """What names this run of the firmware."""
    return device.info.boot_id if isinstance(device, Device) else None


def commit(device: AnyDevice) -> Committed:
    """Have the firmware write weights and step to its store; DeviceError where it has none."""
    if not isinstance(device, Device):
        raise DeviceError(f"{device.info.board} runs MicroPython and has no store to commit to; leave out --commit")
    return device.commit()
