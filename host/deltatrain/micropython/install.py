"""`deltatrain flash` for boards with MicroPython: the module of the board's architecture, and a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deltatrain import image
from deltatrain.errors import DeviceError, InputError
from deltatrain.micropython.raw_repl import BoardError, RawRepl
from deltatrain.quant_model import QuantModel

MODULES = Path("build/micropython")
MODULE = "deltarnn.mpy"
MPY_VERSION = 6
MPY_SUB_VERSION = 3
# By number in `sys.implementation._mpy`, as the .mpy format has them; and whose module a board without its own takes.
ARCHITECTURES = (
    None,
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)
COMPATIBLE = {"armv7em": "armv7m"}


@dataclass(frozen=True)
class Installed:
    """What is on a board now.

    Attributes
    ----------
    architecture : str
    module : Path
        The file that was copied.
    folder : str
        Where it went; empty where the board has no files, so that it is in RAM until the board is reset.
    heap_free : int
        Bytes of the heap that are left.
    """

    architecture: str
    module: Path
    folder: str
    heap_free: int


def install(
    repl: RawRepl, model: QuantModel, modules: Path = MODULES, say: Callable[[str], None] | None = None
) -> Installed:
    """Copy the module and a model to a board, and start the network from the model's weights.

    Parameters
    ----------
    repl : RawRepl
        Of the board.
    modules : Path
        Folder of ARCHITECTURE/deltarnn.mpy, as `make -C firmware/micropython` builds them, or such a file.

    Raises
    ------
    InputError
        If there is no module for the board's architecture.
    DeviceError
        If nothing answers there, the board loads no native modules, or its memory is too small.
    """
    tell = say or (lambda _: None)
    architecture = _architecture(repl)
    module = _module(modules, architecture)
    repl.run("dt_forget()")
    (folder,) = repl.run("print(dt_folder())")
    tell(f"Sending {module}" + (f" to {folder}." if folder else "."))
    repl.run(f"dt_put({folder + '/' + MODULE!r})" if folder else "dt_import()", module.read_bytes())
    tell("Sending the model.")
    data = image.encode(model)
    repl.run("dt_put(DT_MODEL)" if folder else f"dt_fill({len(data)})\ndt_keep_model()", data)
    try:
        repl.run("dt_start()")
    except BoardError as error:
        raise DeviceError(f"the model does not start there: {error}") from error
    (heap_free,) = repl.run("gc.collect()\nprint(gc.mem_free() if hasattr(gc, 'mem_free') else -1)")
    return Installed(architecture, module, folder, int(heap_free))


def _architecture(repl: RawRepl) -> str:
    """The board's, by its name in MPY files."""
    (number,) = repl.run("print(getattr(sys.implementation, '_mpy', 0))")
    mpy = int(number)
    version, sub_version, place = mpy & 0xFF, mpy >> 8 & 3, mpy >> 10 & 0xF
    name = ARCHITECTURES[place] if place < len(ARCHITECTURES) else None
    if name is None:
        raise DeviceError(f"MicroPython at {repl.port} loads no native modules (sys.implementation._mpy is {mpy})")
    if (version, sub_version) != (MPY_VERSION, MPY_SUB_VERSION):
        raise DeviceError(
            f"MicroPython at {repl.port} takes .mpy files of version {version}.{sub_version}, deltarnn's are of "
            f"{MPY_VERSION}.{MPY_SUB_VERSION}; update it to 1.23 or newer"
        )
    return name


def _module(modules: Path, architecture: str) -> Path:
    if modules.is_file():
        return modules
    tried = [modules / name / MODULE for name in (architecture, COMPATIBLE.get(architecture, architecture))]
    for path in tried:
        if path.is_file():
            return path
    raise InputError(
        f"there is no {tried[-1]}; build it: make -C firmware/micropython ARCH={tried[-1].parent.name} MPY_DIR=DIR, "
        "with DIR a MicroPython source tree, or name the folder of built modules by --module"
    )
