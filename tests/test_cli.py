"""The command line, end to end: real cross-compiler, real emulator, real serial line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file
from scipy.io import wavfile

from deltatrain.cli import COMMANDS, main
from deltatrain.cli.study import STUDIES
from deltatrain.model_file import METADATA_KEY
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain_codegen.memory import resized

CLASSES = {"low": 300, "middle": 800, "high": 2000}  # tones, Hz
SPEAKERS = ("ann", "bob")
N_RECORDINGS = 7
PER_CLASS = 2
N_TEST = len(CLASSES) * (N_RECORDINGS - PER_CLASS)
SMALL = ("--holdout", "bob", "--per-class", str(PER_CLASS))


def run(*arguments: object, status: int = 0, environment: dict[str, str] | None = None) -> Result:
    """Run a command; what it printed is part of the failure."""
    result = CliRunner(env=environment).invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def run_json(*arguments: object, status: int = 0) -> Any:
    """Run a command with --json: its standard output is one JSON object and nothing else."""
    return json.loads(run(*arguments, "--json", status=status).stdout)


def write_tones(folder: Path) -> None:
    """A user's own data: FOLDER/<class>/<speaker>_<number>.wav."""
    rng = np.random.default_rng(0)
    for name, hertz in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for speaker, ratio in zip(SPEAKERS, (1.0, 1.4), strict=True):
            for number in range(N_RECORDINGS):
                time = np.arange(int(rng.integers(1500, 4000))) / 8000
                tone = np.sin(2 * np.pi * hertz * ratio * (1 + 0.3 * time) * time) * rng.uniform(0.2, 0.8)
                audio = (tone + rng.normal(0, 0.01, tone.size)).clip(-1, 1) * 32767
                wavfile.write(folder / name / f"{speaker}_{number}.wav", 8000, audio.astype(np.int16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model from `fit` to `export`."""
    folder = tmp_path_factory.mktemp("cli")
    write_tones(folder / "tones")
    options = ("--holdout", "bob", "--hidden", 8, "--epochs", 6, "--out", folder / "float.safetensors")
    fitted = run_json("fit", "--data", folder / "tones", *options)
    assert fitted["params"] == 4 * 8 * (16 + 8 + 1) + 3 * (8 + 1)
    assert 0 < fitted["error"] < 1 and fitted["op_reduction"] > 1
    quantized = run_json(
        "quantize",
        *("--model", folder / "float.safetensors", "--data", folder / "tones"),
        *("--out", folder / "model.safetensors"),
    )
    assert {row["name"] for row in quantized["formats"]} >= {"layer0.x", "layer0.weight_hh", "layer0.c"}
    built = run_json("export", "--model", folder / "model.safetensors", "--out", folder / "build")
    assert sum(built["ram"].values()) == built["ram_bytes"] > built["arena_bytes"] > 0
    assert Path(built["elf"]).stat().st_size > built["flash_bytes"] > 10_000
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[str]:
    """An emulator that `flash` leaves running, and `stop` ends."""
    port = run_json("flash", "--elf", folder / "build" / "firmware.elf")["port"]
    assert port.startswith("socket://")
    yield port
    assert run_json("stop", "--port", port)["stopped"] == [port]
    assert run_json("stop", "--port", port)["stopped"] == []


def on_data(folder: Path) -> tuple[object, ...]:
    return ("--model", folder / "model.safetensors", "--data", folder / "tones", *SMALL)


def on_device(folder: Path, port: str) -> tuple[object, ...]:
    return (*on_data(folder), "--target", port)


def test_train_changes_what_evaluate_sees(folder: Path, port: str) -> None:
    before = run_json("evaluate", *on_device(folder, port))
    trained = run_json("train", *on_device(folder, port), "--rollback", "never", "--learning-rate", 0.5)
    after = run_json("evaluate", *on_device(folder, port))
    assert trained["steps"] == len(CLASSES) * PER_CLASS
    assert trained["op_reduction"] > 1
    assert (trained["error_before"], trained["error_after"]) == (before["error"], after["error"])
    assert before["samples"] == after["samples"] == N_TEST


def test_rollback_brings_the_old_weights_back(folder: Path, port: str) -> None:
    before = run_json("evaluate", *on_device(folder, port))["error"]
    # A rate far too large: the speaker's other utterances suffer.
    ruined = run_json("train", *on_device(folder, port), "--rollback", "always", "--learning-rate", 31, "--clip", 1e4)
    assert ruined["error_trained"] > before and ruined["rolled_back"]
    assert ruined["rates"]["saturated_w"] > 0
    assert ruined["error_after"] == before == run_json("evaluate", *on_device(folder, port))["error"]


def test_the_main_job_with_a_stack_of_grus(folder: Path) -> None:
    options = ("--cell", "gru", "--layers", 2, "--hidden", 6, "--fit-epochs", 2, "--beta", 0.001)
    out = folder / "demo-gru"
    story = run_json("demo", "--data", folder / "tones", *SMALL, *options, "--out", out)
    assert story["train_steps"] == len(CLASSES) * PER_CLASS
    assert story["words_different"] == 0 and story["op_reduction"] > 1
    assert set(story["rates"]) == {field.name for field in fields(Rates)}
    model = QuantModel.load(out / "model.safetensors")
    assert [(layer.cell, layer.n_in, layer.n_hidden) for layer in model.layers] == [("gru", 16, 6), ("gru", 6, 6)]
    # All tensors of both layers, after every step.
    assert story["words_compared"] > story["train_steps"] * sum(tensor.size for tensor in model.tensors().values())
    page = Path(story["report"]).read_text(encoding="utf-8")
    assert "--cell gru --layers 2 --hidden 6" in page and "--beta 0.001" in page


def test_compare_finds_no_difference_and_restores_the_weights(folder: Path, port: str) -> None:
    before = run_json("evaluate", *on_device(folder, port))["error"]
    compared = run_json("compare", *on_device(folder, port))
    assert compared["steps"] == len(CLASSES) * PER_CLASS
    assert compared["words_different"] == 0 and compared["first_difference"] is None
    assert compared["rates"]["saturated_w"] == 0 < compared["rates"]["underflow_dm"] < 1
    model = QuantModel.load(folder / "model.safetensors")
    weights = sum(tensor.size for tensor in model.tensors().values())
    assert compared["words_compared"] > compared["steps"] * weights
    assert 0 < compared["float_error"] < 0.2
    assert run_json("evaluate", *on_device(folder, port))["error"] == before


def test_compare_names_a_flipped_bit(folder: Path, port: str) -> None:
    index = 5 * 32 + 7  # column 5, row 7 of the 4 · 8 rows
    result = run("compare", *on_device(folder, port), "--flip", f"layer0.weight:{index}:3", "--json", status=1)
    found = json.loads(result.stdout)
    assert found["words_different"] > 0
    assert found["first_difference"]["tensor"] == "layer0.weight"
    assert found["first_difference"]["index"] == [5, 7]
    assert found["first_difference"]["step"] == 0
    values = found["first_difference"]["values"]
    assert values["device"] ^ values["host C"] in (8, -8)
    assert "layer0.weight[5, 7]" in result.stderr


def test_without_a_target_the_running_emulator_is_taken(folder: Path, port: str) -> None:
    assert run_json("evaluate", *on_data(folder))["samples"] == N_TEST


def test_a_model_that_is_not_the_firmwares_is_refused(folder: Path, port: str, tmp_path: Path) -> None:
    model = QuantModel.load(folder / "model.safetensors")
    tensors = {name: tensor.copy() for name, tensor in model.tensors().items()}
    tensors["readout.bias"][0] += 1
    model.with_tensors(tensors).save(tmp_path / "other.safetensors")
    message = run(
        "evaluate",
        "--model",
        tmp_path / "other.safetensors",
        "--data",
        folder / "tones",
        *SMALL,
        "--target",
        port,
        status=2,
    ).stderr
    assert model.hash().hex() in message


def test_library_is_written(folder: Path, tmp_path: Path) -> None:
    written = run_json("export", "--model", folder / "model.safetensors", "--library", "--out", tmp_path / "lib")
    assert {Path(name).name for name in written["files"]} >= {"main.c", "dt_model.c", "drnn.h", "README.txt"}


def test_boards_are_listed() -> None:
    known = {board["target"]: board for board in run_json("boards")["boards"]}
    assert known["qemu:mps2-an386"]["packages"] == ["gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"]
    for board in known.values():
        assert board["core"] and board["ram_bytes"] > 0 and board["flash_bytes"] > 0 and len(board["needs"]) == 2
        assert set(board["install"]) == set(board["needs"])
    lines = {line.split()[0]: line for line in run("boards").stdout.splitlines() if line}
    assert known.keys() <= lines.keys()
    stores = {target: board["store"] for target, board in known.items()}
    psram = {"origin": 0x21000000, "pages": 256, "page_bytes": 4096, "write_bytes": 8, "erase_cycles": None}
    assert psram.items() <= stores["qemu:mps2-an386"].items()
    assert [stores["qemu:mps2-an386"][name] for name in ("bytes", "slot_bytes", "commit_s")] == [1 << 20, 1 << 19, 0]
    assert stores["pyocd:stm32f4_discovery"]["erase_cycles"] == 10_000
    assert " 2×128 " in lines["pyocd:stm32f4_discovery"] and " 64×4 " in lines["pyocd:nrf52840dk"]
    # No memory for it at all; left out by the emulator.
    for target in ("qemu:riscv32-virt", "qemu:netduinoplus2", "renode:nrf52840dk_nrf52840"):
        assert stores[target] is None and "×" not in lines[target]


@pytest.mark.parametrize("words", [[name] for name in COMMANDS if name != "study"] + [["study", n] for n in STUDIES])
def test_every_command_explains_itself(words: list[str]) -> None:
    text = run(*words, "--help").stdout
    assert f"Usage: main {' '.join(words)} [OPTIONS]" in text
    assert "--json" in text
    assert len(text.splitlines()) >= 5


def test_the_help_names_all_commands_each_in_one_line() -> None:
    for words, commands in (([], COMMANDS), (["study"], STUDIES)):
        shown = run(*words, "--help").stdout.partition("\nCommands:\n")[2].splitlines()
        assert [tuple(line.split(maxsplit=1)) for line in shown] == [(n, c.summary) for n, c in commands.items()]
    assert "No such command 'flush'" in run("flush", status=2).stderr


SLOW_TO_LOAD = ("matplotlib", "numpy", "scipy.stats", "torch")


def test_commands_load_what_they_need_and_no_more() -> None:
    """The group alone not even numpy; a command, before it does anything, none that takes half a second."""
    loaded = f"print([name for name in {SLOW_TO_LOAD} if name in sys.modules])"
    program = f"""
import sys
from deltatrain.cli import COMMANDS
from deltatrain.cli.study import STUDIES
{loaded}
for command in (*COMMANDS.values(), *STUDIES.values()):
    command.load()
{loaded}
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines() == ["[]", "['numpy']"]


QEMU = ("--model", "{model}", "--data", "{tones}", "--target", "qemu:mps2-an386")
BAD = [
    (("quantize", "--model", "{tmp}/none.safetensors"), "none.safetensors"),
    (("quantize", "--model", "{tmp}/broken.safetensors"), "whole"),
    (("quantize", "--model", "{tmp}/nan.safetensors"), "nan"),
    (("export", "--model", "{float}"), "deltatrain quantize"),
    (("export", "--model", "{model}", "--target", "qemu:toaster"), "toaster"),
    (("export", "--model", "{model}", "--target", "/dev/ttyACM0"), "serial port"),
    (("fit", "--data", "fsdd", "--data-dir", "{tmp}/nowhere"), "fsdd"),
    (("fit", "--holdout", "nobody"), "nobody"),
    (("fit", "--theta", "-1"), "theta"),
    (("evaluate", "--model", "{model}", "--data", "{tones}", *SMALL, "--target", "socket://127.0.0.1:1"), "127.0.0.1"),
    (("evaluate", "--model", "{model}", "--data", "{tones}", *SMALL, "--target", "loop://"), "echoes"),
    (("train", *QEMU, "--run", "{tmp}/runs/bad"), "say whose utterances to train on: --holdout"),
    (("evaluate", *QEMU), "say whose utterances to evaluate on: --holdout"),
    (("train", *QEMU, "--data", "{tmp}/empty", "--run", "{tmp}/runs/bad"), "<anything>.npz"),
    (("fit", "--data", "{tmp}/fsdd"), "--data fsdd --data-dir {tmp}"),
    (("train", *QEMU, "--per-class", "999", *SMALL[:2]), "999"),
    (("compare", *QEMU, *SMALL, "--clip", "0"), "clip"),
    (("compare", *QEMU, *SMALL, "--learning-rate", "nan"), "rate"),
    (("compare", *QEMU, *SMALL, "--theta-h", "9"), "theta_h"),
    (("compare", *QEMU, *SMALL, "--flip", "a:b:c"), "--flip"),
    (("flash", "--elf", "{tmp}/none.elf"), "none.elf"),
    (("flash", "--elf", "{tones}/low/ann_0.wav"), "no firmware"),
    (("flash", "--elf", sys.executable), "another processor"),
    (("fit", "--out", "/proc/x/y.safetensors"), "/proc/x"),
    (("fit", "--out", "/nonexist/x/y.safetensors"), "there is no folder /nonexist;"),
    (("demo", "--out", "/proc/x"), "/proc/x"),
    (("quantize", "--model", "{float}", "--data", "{tones}", "--out", "{float}"), "overwrite"),
    (("demo", "--holdout", "nobody"), "nobody"),
    (("demo", "--data", "nothing"), "nothing"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD, ids=[" ".join(a[:4]) for a, _ in BAD])
def test_bad_input_ends_in_one_clear_line(
    arguments: tuple[str, ...], expected: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.safetensors").write_bytes((folder / "float.safetensors").read_bytes()[:100])
    tensors = load_file(str(folder / "float.safetensors"))
    tensors["layer0.weight_hh"][2, 3] = np.nan
    save_file(tensors, str(tmp_path / "nan.safetensors"), metadata={METADATA_KEY: _description(folder)})
    names = {"tmp": tmp_path, "float": folder / "float.safetensors", "model": folder / "model.safetensors"}
    names["tones"] = folder / "tones"
    for place in ("empty", "fsdd/recordings"):
        (tmp_path / place).mkdir(parents=True)
    result = run(*(a.format(**names) for a in arguments), status=2, environment={"DELTATRAIN_DATA": ""})
    assert expected.format(**names) in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not (tmp_path / "runs").exists() and not Path("/nonexist").exists()


def _description(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(str(folder / "float.safetensors"), framework="numpy") as file:
        return str((file.metadata() or {})[METADATA_KEY])


def test_no_compiler_is_told_before_anything_is_built(folder: Path, tmp_path: Path) -> None:
    result = run(
        "export",
        *("--model", folder / "model.safetensors", "--out", tmp_path / "build"),
        status=2,
        environment={"PATH": str(tmp_path)},
    )
    assert "gcc-arm-none-eabi" in result.stderr
    assert not (tmp_path / "build" / "firmware.elf").exists()


def test_a_model_too_large_for_the_board_is_told_before_anything_is_built(folder: Path, tmp_path: Path) -> None:
    model = QuantModel.load(folder / "model.safetensors")
    resized(model, n_hidden=1000).save(tmp_path / "large.safetensors")
    out = tmp_path / "build"
    result = run("export", "--model", tmp_path / "large.safetensors", "--out", out, status=2)
    assert "bytes of RAM" in result.stderr and "hidden units" in result.stderr
    assert not out.exists()


def test_the_firmware_of_another_board_is_refused(folder: Path) -> None:
    elf = folder / "build" / "firmware.elf"
    result = run("flash", "--elf", elf, "--target", "qemu:netduinoplus2", status=2)
    assert "was built for mps2-an386, not for stm32f4" in result.stderr and "export --target" in result.stderr


def test_interrupt_leaves_no_emulator_behind(folder: Path) -> None:
    arguments = ("evaluate", *on_data(folder), "--target", "qemu:mps2-an386")
    process = subprocess.Popen(
        [sys.executable, "-c", "from deltatrain.cli import main; main()", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not emulators_of(process.pid):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    started = emulators_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def emulators_of(parent: int) -> list[int]:
    """Processes of QEMU that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it has just ended
        if name.startswith("qemu-system") and int(rest.split()[1]) == parent:
            found.append(int(stat.parent.name))
    return found
