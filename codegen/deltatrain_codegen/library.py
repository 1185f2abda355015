"""A model with the trainer as plain C: a folder that any C11 compiler builds and any program can take in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import deltatrain
import deltatrain_core
from deltatrain.errors import BuildError
from deltatrain.quant_model import QuantModel, q_format
from deltatrain_codegen.generate import generate, template
from deltatrain_codegen.plan import arena_plan
from deltatrain_core._core import lib

# The example's recordings see a few of their pattern's slow changes; the loss has time to fall.
_EXAMPLE_FRAMES = 16
_EXAMPLE_EPOCHS = 20


@dataclass(frozen=True)
class LibraryResult:
    """What `export_library` wrote."""

    folder: Path
    files: tuple[Path, ...]
    arena_bytes: int


def export_library(model: QuantModel, out_dir: Path) -> LibraryResult:
    """Write the generated files, the C core, an example that trains without any host, and how to build it.

    Parameters
    ----------
    model : QuantModel
    out_dir : Path
        Folder to write to; made where it is missing. Files of the same names are replaced.

    Raises
    ------
    ModelError
        If the C core does not support the model.
    BuildError
        If the folder cannot be written.
    """
    plan = arena_plan(model)
    texts = generate(model) | {
        "main.c": template("main.c.j2").render(
            readout=model.readout,
            replay=model.replay,
            trains=model.memory.kind != "inference",
            n_frames=min(_EXAMPLE_FRAMES, model.max_steps),
            n_epochs=_EXAMPLE_EPOCHS,
            one=min(1 << model.layers[0].x_frac_bits, lib.DRNN_V_MAX),
        ),
        "README.txt": template("README.txt.j2").render(
            version=deltatrain.__version__,
            model_hash=model.hash().hex(),
            arena_bytes=plan.total,
            memory=model.memory,
            trains=model.memory.kind != "inference",
            purposes=plan.by_purpose(),
            parameter_bytes=sum(tensor.nbytes for tensor in model.tensors().values()),
            n_in=model.n_in,
            x_format=q_format(model.layers[0].x_frac_bits),
            x_one=1 << model.layers[0].x_frac_bits,
            v_max=lib.DRNN_V_MAX,
            readout=model.readout,
            replay=model.replay,
            class_names=model.class_names,
            features=model.features.to_dict(),
        ),
    }
    core = [*deltatrain_core.sources(), *core_headers()]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out_dir / name).write_text(text, encoding="utf-8")
        for path in core:
            shutil.copyfile(path, out_dir / path.name)
    except OSError as error:
        raise BuildError(f"cannot write the library to {out_dir} ({error.strerror}); name another folder") from error
    names = sorted([*texts, *(path.name for path in core)])
    return LibraryResult(out_dir, tuple(out_dir / name for name in names), plan.total)


def core_headers() -> list[Path]:
    """The public and the private headers of the C core, in a fixed order."""
    private = {header for source in deltatrain_core.sources() for header in source.parent.glob("*.h")}
    return sorted([*deltatrain_core.include_dir().glob("*.h"), *private])
