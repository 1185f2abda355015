"""Generated C: the same bytes each time, accepted by three compilers, and right when run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

import deltatrain_core
from deltatrain.errors import BuildError, ModelError
from deltatrain.quant_model import QuantModel
from deltatrain.reference import READOUT_KINDS
from deltatrain.targets import Board, find_board
from deltatrain_codegen import (
    arena_bytes,
    arena_plan,
    check_fits,
    export,
    export_library,
    generate,
    measure,
    ram_needed,
)
from deltatrain_codegen.library import core_headers
from deltatrain_codegen.memory import firmware_ram, resized, ways_out

GOLDEN = Path(__file__).parent / "golden"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZE = ["-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]
MakeModel = Callable[..., QuantModel]

host_compiler = pytest.mark.parametrize("compiler", ["gcc", "clang"])


def need(program: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; `make setup` installs it")
    return path


def run(*command: object) -> str:
    """Run a command; its standard output. A failure shows what it printed."""
    outcome = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, f"{command}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome.stdout


def sanitizers(compiler: str, folder: Path) -> list[str]:
    """The sanitizers' options, where this compiler has their libraries; clang has them in another package."""
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    outcome = subprocess.run([compiler, *SANITIZE, str(probe), "-o", str(folder / "probe")], capture_output=True)
    probe.unlink()
    if outcome.returncode == 0:
        return SANITIZE
    assert compiler != "gcc", "gcc lost its sanitizers"
    return []


def write(folder: Path, model: QuantModel) -> None:
    for name, text in generate(model).items():
        (folder / name).write_text(text)


# the text
# --------


def test_generated_files_equal_the_golden_ones(tiny_model: QuantModel) -> None:
    generated = generate(tiny_model)
    assert sorted(generated) == sorted(path.name for path in GOLDEN.glob("dt_model.*"))
    for name, text in generated.items():
        assert text == (GOLDEN / name).read_text(), f"{name} differs from tests/golden/{name}"


def test_the_same_model_gives_the_same_bytes_in_another_process(tiny_model: QuantModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tiny_model.save(path)
    program = (
        "import sys; from pathlib import Path; from deltatrain.quant_model import QuantModel; "
        "from deltatrain_codegen.generate import generate; "
        "print(''.join(generate(QuantModel.load(Path(sys.argv[1]))).values()), end='')"
    )
    outcome = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert outcome.stdout == "".join(generate(tiny_model).values()), outcome.stderr


def test_any_changed_weight_changes_the_banner(tiny_model: QuantModel) -> None:
    readout = tiny_model.readout_bias.copy()
    readout[0] += 1
    other = generate(replace(tiny_model, readout_bias=readout))
    banners = [re.search(r"[0-9a-f]{64}", text["dt_model.h"]) for text in (generate(tiny_model), other)]
    assert banners[0] is not None
    assert banners[1] is not None
    assert banners[0].group() != banners[1].group()


def test_header_states_the_arena_of_the_core(tiny_model: QuantModel) -> None:
    stated = re.search(r"#define DT_ARENA_BYTES (\d+)", generate(tiny_model)["dt_model.h"])
    assert stated is not None
    assert int(stated[1]) == deltatrain_core.CoreNetwork(tiny_model).arena_bytes == arena_bytes(tiny_model)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_no_line_of_generated_code_is_too_long(cell: str, make_integer_model: MakeModel) -> None:
    for name, text in generate(make_integer_model(16, 64, 64, cells=(cell,))).items():
        longest = max(text.splitlines(), key=len)
        assert len(longest) <= 120, f"{name}: {longest}"


def test_a_model_that_the_core_refuses_is_a_clear_error(tiny_model: QuantModel) -> None:
    with pytest.raises(ModelError, match=r"cells lstm, 3 inputs, 4 units, 3 outputs, 5000 steps"):
        generate(replace(tiny_model, max_steps=5000))


# compiled and run
# ----------------

# Prints what the compiled model holds: its own sums of each array, which the test compares with numpy's.
CHECK_PROGRAM = """
#include <stdio.h>
#include "dt_model.h"

int main(void)
{
    static const char *const names[DT_N_OUTPUTS] = DT_OUTPUT_NAMES;
    long long readout_weight = 0, readout_bias = 0;
    for (int l = 0; l < dt_model.n_layers; l++) {
        const drnn_layer_t *layer = &dt_model.layers[l];
        const long gates = layer->cell == DRNN_LSTM ? 4 : layer->cell == DRNN_GRU ? 3 : 1;
        const long accumulators = layer->cell == DRNN_RNN ? 1 : 4;
        const long n = (layer->n_in + layer->n_hidden) * gates * layer->n_hidden;
        long long weight = 0, bias = 0;
        for (long i = 0; i < n; i++) weight += (i + 1) * layer->weight[i];
        for (long i = 0; i < accumulators * layer->n_hidden; i++) bias += (i + 1) * layer->bias[i];
        printf("%lld %lld ", weight, bias);
    }
    for (long i = 0; i < DT_N_OUTPUTS * DT_N_HIDDEN; i++)
        readout_weight += (i + 1) * dt_model.readout_weight[i];
    for (long i = 0; i < DT_N_OUTPUTS; i++) readout_bias += (i + 1) * dt_model.readout_bias[i];
    printf("%lld %lld\\n", readout_weight, readout_bias);
    printf("%d %d\\n", (int)drnn_arena_size(&dt_model), DT_ARENA_BYTES);
    for (int i = 0; i < DRNN_HASH_BYTES; i++) printf("%02x", (unsigned)dt_model.hash[i]);
    for (int i = 0; i < DT_N_OUTPUTS; i++) printf("\\n%s", names[i]);
    return 0;
}
"""


@host_compiler
@pytest.mark.parametrize("kind", ["golden", "extremes", "stack"])
def test_compiled_model_holds_every_number(
    compiler: str, kind: str, tiny_model: QuantModel, make_integer_model: MakeModel, tmp_path: Path
) -> None:
    """The committed files; the ends of each integer type, and names that C could misread; all cells in a stack."""
    model = tiny_model
    if kind == "stack":
        model = make_integer_model(cells=("rnn", "gru", "lstm"))
        write(tmp_path, model)
    elif kind == "golden":
        for path in GOLDEN.glob("dt_model.*"):
            shutil.copy(path, tmp_path)
    else:
        weight, bias = model.layers[0].weight.copy(), model.layers[0].bias.copy()
        weight.flat[:2] = (-32768, 32767)
        bias[:2] = (-(2**31), 2**31 - 1)
        names = ('say "*/"', "caf\u00e97\\", "what??/")
        model = replace(model, layers=(replace(model.layers[0], weight=weight, bias=bias),), class_names=names)
        write(tmp_path, model)
    (tmp_path / "check.c").write_text(CHECK_PROGRAM)
    program = tmp_path / "check"
    options = [*STRICT, *sanitizers(need(compiler), tmp_path), f"-I{deltatrain_core.include_dir()}"]
    run(compiler, *options, *sorted(tmp_path.glob("*.c")), *deltatrain_core.sources(), "-o", program)

    sums, arena, digest, *names_there = run(program).splitlines()
    expected = [
        int(np.sum(np.arange(1, tensor.size + 1) * tensor.ravel().astype(np.int64)))
        for tensor in model.tensors().values()
    ]
    assert [int(word) for word in sums.split()] == expected
    assert len(set(arena.split())) == 1, f"the core wants {arena.split()[0]}, the header says {arena.split()[1]}"
    assert digest == model.hash().hex()
    assert tuple(names_there) == model.class_names


def test_generated_source_compiles_for_the_microcontroller(tiny_model: QuantModel, tmp_path: Path) -> None:
    compiler = need("arm-none-eabi-gcc")
    write(tmp_path, tiny_model)
    run(
        compiler, "-mcpu=cortex-m4", "-mthumb", *STRICT, f"-I{deltatrain_core.include_dir()}",
        "-c", tmp_path / "dt_model.c", "-o", tmp_path / "dt_model.o",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("dt_model.h", r"DT_ARENA_BYTES \d+", "DT_ARENA_BYTES 8", "arena cannot hold"),
        ("dt_model.h", r"DT_MAX_STEPS \d+", "DT_MAX_STEPS 4097", "samples too long"),
        ("dt_model.c", r"DRNN_ABI_VERSION == \d+", "DRNN_ABI_VERSION == 99", "another version of the C core"),
    ],
)
def test_static_assertions_refuse_what_does_not_fit(
    name: str, old: str, new: str, complaint: str, tiny_model: QuantModel, tmp_path: Path
) -> None:
    write(tmp_path, tiny_model)
    text, replaced = re.subn(old, new, (tmp_path / name).read_text(), count=1)
    assert replaced == 1
    (tmp_path / name).write_text(text)
    outcome = subprocess.run(
        [
            need("gcc"),
            *STRICT,
            f"-I{deltatrain_core.include_dir()}",
            "-fsyntax-only",
            tmp_path / "dt_model.c",
        ],
        capture_output=True,
        text=True,
    )
    assert outcome.returncode != 0
    assert complaint in outcome.stderr


# the library
# -----------


@host_compiler
@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_exported_library_trains_without_a_host(
    compiler: str, readout: str, make_integer_model: MakeModel, tmp_path: Path
) -> None:
    model = make_integer_model(8, 16, 16, ("up", "down", "left", "right"), weight_bound=2000, readout=readout)
    result = export_library(model, tmp_path / "library")
    assert {path.name for path in result.files} == {path.name for path in result.folder.iterdir()}
    options = [*STRICT, "-O1", *sanitizers(need(compiler), tmp_path)]
    run(compiler, *options, *sorted(result.folder.glob("*.c")), "-o", tmp_path / "train")
    told = run(tmp_path / "train")
    losses = [
        float(loss) for loss in re.findall(r"loss (\d+\.\d{3})" + ("\n" if readout == "regression" else " nats"), told)
    ]
    assert len(losses) == 20
    if readout == "regression":
        assert 0.1 < losses[0] < 0.4, "one output in four is to be 1: 0.19 where all are 1/4, 0.25 where they are 0"
    else:
        assert 1.0 < losses[0] < 2.0, "four classes, weights that know none of them: near ln 4 = 1.39"
    assert losses[-1] < losses[0] * {"last": 0.5, "frames": 0.9, "regression": 0.7}[readout]


def test_the_command_in_the_library_s_readme_works(tiny_model: QuantModel, tmp_path: Path) -> None:
    need("cc")
    folder = export_library(tiny_model, tmp_path).folder
    commands = re.findall(r"^    (cc .*)$", (folder / "README.txt").read_text(), flags=re.MULTILINE)
    assert len(commands) == 1
    frac_bits = tiny_model.layers[0].x_frac_bits
    assert f"int16 in Q{15 - frac_bits}.{frac_bits}, no larger" in (folder / "README.txt").read_text()
    outcome = subprocess.run(commands[0], shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
    assert "epoch 20: loss" in outcome.stdout


def test_library_holds_no_private_copy_of_the_core(tiny_model: QuantModel, tmp_path: Path) -> None:
    folder = export_library(tiny_model, tmp_path).folder
    for path in [*deltatrain_core.sources(), *core_headers()]:
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_library_into_a_folder_that_is_a_file_is_a_clear_error(tiny_model: QuantModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="name another folder"):
        export_library(tiny_model, tmp_path / "file")


# RAM before building
# -------------------


@pytest.fixture(scope="module")
def board() -> Board:
    board = find_board("mps2-an386")
    assert board is not None
    return board


def with_ram(board: Board, ram_bytes: int) -> Board:
    """The board with another size of RAM."""
    return replace(board, ram_bytes=ram_bytes)


def test_purposes_add_up_to_the_arena(make_integer_model: MakeModel) -> None:
    plan = arena_plan(make_integer_model(16, 64, 64))
    assert sum(plan.regions.values()) == sum(plan.by_purpose().values()) == plan.total
    assert plan.by_purpose()["weights"] >= 2 * (16 + 64) * 256 + 4 * 256 + 2 * 3 * 64 + 4 * 3


def test_a_model_that_fits_exactly_is_accepted_and_one_byte_less_refuses_it(
    tiny_model: QuantModel, board: Board
) -> None:
    needed = ram_needed(tiny_model, board)
    assert check_fits(tiny_model, with_ram(board, sum(needed.values()))) == needed
    with pytest.raises(BuildError, match=r"mps2-an386 has [\d,]+: 1 too many"):
        check_fits(tiny_model, with_ram(board, sum(needed.values()) - 1))


def test_each_way_out_fits_and_a_little_more_does_not(make_integer_model: MakeModel, board: Board) -> None:
    model = make_integer_model(16, 64, 64)
    ram_bytes = sum(ram_needed(model, board).values()) - 20_000
    ways = ways_out(model, with_ram(board, ram_bytes))
    assert [set(way.sizes) for way in ways] == [{"max_steps", "n_hidden"}, {"n_hidden"}, {"max_steps"}]
    assert [way.kept for way in ways] == sorted((way.kept for way in ways), reverse=True)
    for way in ways:
        more = {name: size + 1 for name, size in way.sizes.items()}
        assert sum(ram_needed(resized(model, **way.sizes), board).values()) <= ram_bytes, str(way)
        assert sum(ram_needed(resized(model, **more), board).values()) > ram_bytes, str(way)


def test_fewer_inputs_are_offered_where_they_suffice(make_integer_model: MakeModel, board: Board) -> None:
    model = make_integer_model(64, 4, 4)
    ways = ways_out(model, with_ram(board, sum(ram_needed(model, board).values()) - 200))
    assert any(set(way.sizes) == {"n_in"} for way in ways)


def test_the_refusal_names_numbers_and_ways_out(make_integer_model: MakeModel, board: Board) -> None:
    model = make_integer_model(16, 64, 64)
    with pytest.raises(BuildError) as refusal:
        check_fits(model, replace(board, name="small-board", ram_bytes=96 * 1024))
    message = str(refusal.value)
    assert "small-board has 98,304" in message
    for purpose in ("weights", "history", "events", "scratch", "stack", "link"):
        assert re.search(rf"{purpose} [\d,]+", message), purpose
    both = re.search(r"at most (\d+) steps in a sample and (\d+) hidden units \(fit (.*?)\)", message)
    assert both is not None and both[3] == f"--max-frames {both[1]} --hidden {both[2]}"


def test_where_nothing_smaller_fits_a_larger_board_is_advised(tiny_model: QuantModel, board: Board) -> None:
    with pytest.raises(BuildError, match="choose a board with more RAM"):
        check_fits(tiny_model, with_ram(board, sum(firmware_ram(board).values())))


def test_measuring_what_is_no_firmware_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.elf").write_bytes(b"not an ELF file at all")
    with pytest.raises(BuildError, match="no ELF file"):
        measure(tmp_path / "a.elf")
    with pytest.raises(BuildError, match="no deltatrain firmware"):
        measure(Path(sys.executable).resolve())


# The firmware
# ------------


def test_firmware_is_built_and_measured(make_integer_model: MakeModel, board: Board, tmp_path: Path) -> None:
    need(board.compiler)
    model, said = make_integer_model(16, 32, 32), list[str]()
    result = export(model, board, tmp_path / "a", said.append)
    assert [line.split()[0] for line in said] == ["generating", "compiling", "linking"]

    assert result.elf.read_bytes()[:4] == b"\x7fELF"
    assert result.arena_bytes == arena_bytes(model)
    assert sum(result.ram.values()) == result.ram_bytes < board.ram_bytes
    assert {name: result.ram[name] for name in arena_plan(model).by_purpose()} == arena_plan(model).by_purpose()
    assert model.tensors()["layer0.weight"].nbytes < result.flash_bytes < board.flash_bytes

    # The figures again by another road: the sizes of the sections that take memory.
    with result.elf.open("rb") as file:
        sections = [s for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_ALLOC]
        loaded = sum(s["sh_size"] for s in sections if s["sh_type"] != "SHT_NOBITS")
        first, last = min(s["sh_addr"] for s in sections), max(s["sh_addr"] + s["sh_size"] for s in sections)
        ram_start = min(s["sh_addr"] for s in sections if s["sh_type"] == "SHT_NOBITS")
    assert first == 0
    assert result.ram_bytes == last - ram_start
    assert result.flash_bytes == loaded


def test_what_is_reserved_before_the_build_is_enough_and_close(
    tiny_model: QuantModel, board: Board, tmp_path: Path
) -> None:
    need(board.compiler)
    result = export(tiny_model, board, tmp_path)
    for purpose, reserved in firmware_ram(board).items():
        assert 0 <= reserved - result.ram[purpose] <= 512, f"{purpose}: {reserved} for {result.ram[purpose]}"


def test_the_same_model_gives_the_same_firmware_in_any_folder(
    tiny_model: QuantModel, board: Board, tmp_path: Path
) -> None:
    need(board.compiler)
    first = export(tiny_model, board, tmp_path / "a").elf.read_bytes()
    second = export(tiny_model, board, tmp_path / "another" / "folder").elf.read_bytes()
    assert first == second
    for path in (tmp_path, Path(deltatrain_core.__file__).parent):
        assert str(path).encode() not in first


def test_a_model_too_large_is_refused_before_anything_is_written(
    tiny_model: QuantModel, board: Board, tmp_path: Path
) -> None:
    small = with_ram(board, sum(ram_needed(tiny_model, board).values()) - 100)
    with pytest.raises(BuildError, match=r"mps2-an386 has [\d,]+: 100 too many"):
        export(tiny_model, small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_compiler_is_a_clear_error(
    tiny_model: QuantModel, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        export(tiny_model, board, tmp_path / "out")


def test_a_compiler_that_refuses_shows_what_it_said(tiny_model: QuantModel, board: Board, tmp_path: Path) -> None:
    need(board.compiler)
    odd = replace(board, arch_flags=("-mcpu=no-such-core",))
    with pytest.raises(BuildError, match="no-such-core"):
        export(tiny_model, odd, tmp_path / "out")
    assert not (tmp_path / "out" / "firmware.elf").exists()


def test_a_firmware_larger_than_the_flash_is_refused(
    make_integer_model: MakeModel, board: Board, tmp_path: Path
) -> None:
    need(board.compiler)
    with pytest.raises(BuildError, match=r"[\d,]+ bytes of flash, mps2-an386 has 20,000"):
        export(make_integer_model(16, 32, 32), replace(board, flash_bytes=20_000), tmp_path)
    assert not (tmp_path / "firmware.elf").exists()
