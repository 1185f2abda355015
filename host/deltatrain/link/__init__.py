"""The link to a device: frames, the protocol, and a client with one method for each command."""

from deltatrain.link.device import Device
from deltatrain.link.results import Config, DeviceResult, Hello, Statistics
from deltatrain.link.session import RefusedError

__all__ = ["Config", "Device", "DeviceResult", "Hello", "RefusedError", "Statistics"]
