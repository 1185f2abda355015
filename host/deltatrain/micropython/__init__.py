"""Boards that run MicroPython as targets: the module `deltarnn` there, driven from here over the raw REPL."""

from deltatrain.micropython.device import MicroPythonDevice
from deltatrain.micropython.install import Installed, install
from deltatrain.micropython.raw_repl import RawRepl

__all__ = ["Installed", "MicroPythonDevice", "RawRepl", "install"]
