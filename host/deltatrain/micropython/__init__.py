"""Boards that run MicroPython as targets: the module `deltarnn` there, driven from here over the raw REPL."""

from deltatrain.micropython.device import MicroPythonDevice
from deltatrain.micropython.install import Installed, install

__all__ = ["Installed", "MicroPythonDevice", "install"]
