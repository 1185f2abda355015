"""What the precision of the recurrent weights is worth: error against RAM, by real arithmetic in variants of the core.

    python tools/study_weights.py --data-dir DIR --parity build/parity

Goes on from `deltatrain study parity` (same folds, orders and pre-trained models, read from its folder) and trains each
variant of tools/weight_variants.c in its place. DESIGN.md has the table, and the choice.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import deltatrain_core
import deltatrain_core.network
from deltatrain import datasets
from deltatrain.datasets import Dataset
from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.parity import Fixed, ParityConfig, difference
from deltatrain.parity.runs import initial_model, personalise, quantised, scratch
from deltatrain.quant_model import QuantModel
from deltatrain.shards import Outcome, Row, Shard, run_shards
from deltatrain_core import CoreNetwork, StepResult, arena_plan
from deltatrain_core.build_core import DECLARING_HEADERS, declarations

SOURCE = Path(__file__).with_name("weight_variants.c")
FRAMES = 64  # of the RAM that the table tells
INT16_MAX = 2**15 - 1


@dataclass(frozen=True)
class Variant:
    """How the recurrent weights are held and rounded; see weight_variant_t.

    Attributes
    ----------
    words : str
    extra_bytes : float
        RAM for each recurrent weight beside or below the product's two bytes.
    finer : int
        Fraction bits more than `quantize` chooses.
    """

    words: str
    extra_bytes: float = 0.0
    nearest: int = 0
    grid_bits: int = 0
    low_bits: int = 0
    batch: int = 1
    finer: int = 0


PRODUCT = "product"
VARIANTS = {
    PRODUCT: Variant("int16, stochastic rounding"),
    "nearest": Variant("int16, rounded to nearest", nearest=1),
    "finer": Variant("int16, a fraction bit more (margin 1)", finer=1),
    "coarser": Variant("int16, a fraction bit fewer (margin 4)", finer=-1),
    "24-bit": Variant("int16 and 8 low bits for the update", extra_bytes=1.0, low_bits=8),
    "batch-4": Variant("int16, moved every 4 samples", extra_bytes=4.0, batch=4),
    "int8": Variant("int8, stochastic rounding", extra_bytes=-1.0, grid_bits=8),
}


@lru_cache(maxsize=1)
def _load() -> tuple[Any, Any]:
    """The core and the variants as one library, in place of the installed core in this process."""
    text = SOURCE.read_text(encoding="utf-8")
    ffi = FFI()
    for header in DECLARING_HEADERS:
        ffi.cdef(declarations(header))
    struct = text[text.index("typedef struct") : text.index("} weight_variant_t;")]
    ffi.cdef(struct + "} weight_variant_t;")
    ffi.cdef("int weight_variant_train(weight_variant_t *v, drnn_t *net, uint16_t label, drnn_result_t *result);")
    sources = [str(path) for path in deltatrain_core.sources()]
    includes = [f"-I{deltatrain_core.include_dir()}", f"-I{Path(sources[0]).parent}"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "variants.so"
        flags = ["-std=c11", "-O3", "-march=native", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, *includes, str(SOURCE), *sources, "-o", str(library)], check=True)
        lib = ffi.dlopen(str(library))
    deltatrain_core.network.ffi = ffi  # type: ignore[attr-defined]
    deltatrain_core.network.lib = lib  # type: ignore[attr-defined]
    return ffi, lib


class VariantCore(CoreNetwork):
    """The core, with its recurrent weights held as a variant has them."""

    def __init__(self, model: QuantModel, variant: Variant) -> None:
        self._ffi, self._variant_lib = _load()
        super().__init__(model)
        self._variant = self._ffi.new("weight_variant_t *")
        for name in ("nearest", "grid_bits", "low_bits", "batch"):
            setattr(self._variant, name, getattr(variant, name))
        weight = model.layers[0].weight
        self._before, self._beside = np.zeros(weight.size, np.int16), np.zeros(weight.size, np.int32)
        self._variant.before = self._ffi.from_buffer("int16_t[]", self._before)
        self._variant.beside = self._ffi.from_buffer("int32_t[]", self._beside)

    @property
    def kept(self) -> NDArray[np.int32]:
        """What is beside the weights: low-order bits, or sums."""
        return self._beside.copy()

    def reset_weights(self) -> None:
        """Go back to the model's weights, and nothing beside them."""
        super().reset_weights()
        self._beside[:] = 0
        self._variant.n_summed = 0

    def train(self, label: int) -> StepResult:
        """One step of SGD as the variant makes it."""
        error = self._variant_lib.weight_variant_train(self._variant, self._net, label, self._result)
        if error:
            raise deltatrain_core.CoreError("weight_variant_train", error)
        return self._step_result()


@dataclass(frozen=True)
class Engine:
    """Makes the trainers of a variant; picklable."""

    variant: Variant

    def __call__(self, model: QuantModel) -> VariantCore:
        return VariantCore(model, self.variant)


@dataclass(frozen=True)
class Adapt:
    """A variant's formats of the recurrent weights, and its grid."""

    variant: Variant

    def __call__(self, model: QuantModel) -> QuantModel:
        layer, more, grid = model.layers[0], self.variant.finer, 2**self.variant.grid_bits
        weight = np.rint(layer.weight * 2.0**more / grid).clip(-(INT16_MAX // grid), INT16_MAX // grid) * grid
        adapted = replace(
            layer,
            wx_frac_bits=layer.wx_frac_bits + more,
            wh_frac_bits=layer.wh_frac_bits + more,
            weight=weight.astype(np.int16),
        )
        return replace(model, layers=(adapted,))


def fixed_of(variant: Variant) -> Fixed:
    """The fixed-point side of a parity run."""
    return Fixed(Engine(variant), Adapt(variant))


def _scratch(data: Dataset, fold: int, config: ParityConfig, variant: Variant) -> Outcome:
    errors = scratch(data, fold, config.scratch, fixed_of(variant), with_float=False)["fixed"]
    return Outcome({"fixed": float(np.mean(errors[-config.scratch.last :]))})


def _personal(
    data: Dataset, speaker: str, seed: int, model: FloatModel, config: ParityConfig, variant: Variant
) -> Outcome:
    run = personalise(data, model, speaker, seed, config.personal, fixed_of(variant), with_float=False)
    return Outcome({"fixed": float(np.mean(run["fixed"]))})


@dataclass(frozen=True)
class Run:
    """One run of the study of parity that a variant repeats."""

    part: str
    path: Path

    @property
    def row(self) -> Row:
        """What the study kept; InputError where it has not been there yet."""
        try:
            return dict(json.loads(self.path.read_text())["row"])
        except OSError as error:
            raise InputError(
                f"{self.path} is missing ({error.strerror}); run `deltatrain study parity` first"
            ) from error

    def shard(self, data: Dataset, name: str) -> Shard:
        """The same run by a variant."""
        config, variant = ParityConfig(), VARIANTS[name]
        of_what, which = self.path.stem.split("-", 1)[1], f"{name}-{self.path.stem}"
        if self.part == "scratch":
            settings = {**asdict(variant), **asdict(config.scratch), "fold": int(of_what)}
            return Shard(which, settings, _scratch, (data, int(of_what), config, variant))
        speaker, seed = of_what.rsplit("-", 1)
        settings = {**asdict(variant), **asdict(config.personal), "speaker": speaker, "seed": int(seed)}
        model = FloatModel.load(self.path.with_suffix(".safetensors"))
        return Shard(which, settings, _personal, (data, speaker, int(seed), model, config, variant))


def ram_bytes(variant: Variant, data: Dataset) -> int:
    """The arena for an LSTM of 16 → 64 and FRAMES frames, by the core's planner, with what the variant adds."""
    items = np.arange(20)
    start = initial_model(data, items, ParityConfig().scratch, 0)
    model = quantised(replace(start, max_steps=FRAMES), data, items, Fixed())
    return arena_plan(model)["total"] + round(variant.extra_bytes * int(model.layers[0].weight.size))


PARTS = ("scratch", "personal")
COLUMNS = (
    *("variant", "weights", "ram_bytes"),
    *(f"{part}_{column}" for part in PARTS for column in ("runs", "float", "fixed", "difference", "half_width")),
)


def main() -> int:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder that holds fsdd")
    parser.add_argument("--parity", type=Path, default=Path("build/parity"), help="folder of `study parity`")
    parser.add_argument("--out", type=Path, default=Path("build/weights"), help="keeps each run; receives weights.csv")
    parser.add_argument("--folds", type=int, default=4, help="from scratch")
    parser.add_argument("--seeds", type=int, default=3, help="pre-trained models of each speaker")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only this one; several times")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    data = datasets.load("fsdd", given.data_dir)
    names = given.variant or list(VARIANTS)
    runs = [Run("scratch", given.parity / f"scratch-{fold}.json") for fold in range(given.folds)]
    for seed in range(given.seeds):
        runs += [Run("personal", given.parity / f"personal-{name}-{seed}.json") for name in data.speaker_names]
    todo = [(name, run) for name in names if name != PRODUCT for run in runs]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task("runs", total=len(todo))
        rows = run_shards(
            [run.shard(data, name) for name, run in todo],
            given.out,
            jobs=given.jobs,
            progress=lambda done, total, beside: bar.update(task, completed=done),
        )
    fixed = {key: float(row["fixed"]) for key, row in zip(todo, rows, strict=True)}
    fixed |= {(PRODUCT, run): float(run.row["fixed"]) for run in runs}
    lines = [COLUMNS]
    for name in names:
        numbers: list[str] = []
        for part in PARTS:
            of_part = [run for run in runs if run.part == part]
            pooled = difference(part, [run.row["float"] for run in of_part], [fixed[name, run] for run in of_part])
            measured = (pooled.error_float, pooled.error_fixed, pooled.difference, pooled.half_width)
            numbers += [str(pooled.runs), *(f"{number:.6f}" for number in measured)]
        lines.append((name, VARIANTS[name].words, str(ram_bytes(VARIANTS[name], data)), *numbers))
    with (given.out / "weights.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    for line in lines:
        print("\t".join(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
