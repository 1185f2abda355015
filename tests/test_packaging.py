"""What an install brings: a wheel with every file of the packages, at work away from the project; and make."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from deltatrain.targets import Qemu, boards

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "deltatrain": ROOT / "host" / "deltatrain",
    "deltatrain_codegen": ROOT / "codegen" / "deltatrain_codegen",
    "deltatrain_core": ROOT / "ctypes_core" / "deltatrain_core",
    "deltatrain_firmware": ROOT / "firmware" / "deltatrain_firmware",
}
LEFT_BY_BUILDS = {".so", ".o", ".elf", ".pyc"}


def run(
    *command: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@dataclass(frozen=True)
class Installed:
    """A wheel of the project, and an environment of its own that has it."""

    wheel: Path
    python: Path

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the project."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return run(self.python.parent / program, *arguments, cwd=self.wheel.parent, env=environment)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from a copy of the project and install it where only its dependencies are known."""
    folder = tmp_path_factory.mktemp("wheel")
    project = folder / "project"
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "_core.c")
    for path in PACKAGES.values():
        shutil.copytree(path, project / path.relative_to(ROOT), ignore=unwanted)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, project)
    built = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, project)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")

    environment = folder / "venv"
    made = run(sys.executable, "-m", "venv", "--without-pip", environment)
    assert made.returncode == 0, made.stderr
    python = environment / "bin" / "python"
    # The dependencies, without what this environment's own .pth files bring, such as the editable install.
    own = run(python, "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
    (Path(own) / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    return Installed(wheel, python)


def files_of(package: str) -> set[str]:
    """The names that a package's files have in a wheel."""
    folder = PACKAGES[package]
    return {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in LEFT_BY_BUILDS and path.name != "_core.c"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_holds_every_file_of_a_package(package: str, installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    assert files_of(package) - names == set()


def test_wheel_holds_nothing_that_builds_left(installed: Installed) -> None:
    built = [name for name in zipfile.ZipFile(installed.wheel).namelist() if Path(name).suffix in LEFT_BY_BUILDS]
    assert [name.split(".")[0] for name in built] == ["deltatrain_core/_core"]


def test_every_folder_of_modules_is_a_package() -> None:
    """Without its `__init__.py` a folder would be left out of the wheel's packages."""
    for folder in PACKAGES.values():
        for module in folder.rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), f"{module.parent} has no __init__.py"


def test_installed_packages_work_away_from_the_project(installed: Installed) -> None:
    program = """
import json, deltatrain, deltatrain_codegen, deltatrain_core, deltatrain_firmware
from deltatrain.targets import Qemu, boards
print(json.dumps({
    "files": [m.__file__ for m in (deltatrain, deltatrain_codegen, deltatrain_core, deltatrain_firmware)],
    "sources": len(deltatrain_core.sources()) + len(deltatrain_firmware.sources()),
    "header": (deltatrain_core.include_dir() / "drnn.h").is_file(),
    "boards": {b.name: all(f.is_file() for f in (*b.sources, b.linker_script)) for b in boards()},
}))
"""
    outcome = installed.run("python", "-c", program)
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert all(str(installed.python.parents[1]) in path for path in found["files"]), found["files"]
    assert found["sources"] > 10
    assert found["header"]
    assert found["boards"] == {board.name: True for board in boards()}


def test_installed_command_line_answers(installed: Installed) -> None:
    outcome = installed.run("deltatrain", "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert "export" in outcome.stdout


# make
# ----


def test_make_lists_its_targets() -> None:
    outcome = run("make", "--no-print-directory", "-C", ROOT, env={"PATH": os.environ["PATH"]})
    assert outcome.returncode == 0, outcome.stderr
    assert {line.split()[0] for line in outcome.stdout.splitlines()} >= {"demo", "test", "setup", "digits", "clean"}


def test_missing_packages_are_named_in_one_line_where_they_may_not_be_installed(tmp_path: Path) -> None:
    """A machine with Python and gcc, but without cross-compilers, emulators, apt-get and sudo."""
    for name in ("bash", "env", "id", "test", "gcc", "clang"):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed; `make setup` installs it")
        (tmp_path / name).symlink_to(path)
    outcome = run(ROOT / ".ci" / "debian", env={"PATH": str(tmp_path), "PYTHON": sys.executable})
    assert outcome.returncode == 1
    (line,) = (line for line in outcome.stdout.splitlines() if "apt-get" in line)
    assert line.split()[:4] == ["sudo", "apt-get", "install", "-y"]
    assert {word for word in line.split()[4:] if not word.startswith("-")} == {
        "gcc-arm-none-eabi",
        "libnewlib-arm-none-eabi",
        "gcc-riscv64-unknown-elf",
        "picolibc-riscv64-unknown-elf",
        "qemu-system-arm",
        "qemu-system-misc",
        "llvm",
        "nodejs",
        "npm",
    }


def test_nothing_is_asked_for_where_nothing_is_missing() -> None:
    emulated = (name for board in boards() if isinstance(board.run, Qemu) for name in board.needs)
    for program in (*emulated, "clang", "node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    outcome = run(ROOT / ".ci" / "debian", env={"PATH": os.environ["PATH"], "PYTHON": sys.executable})
    assert (outcome.returncode, outcome.stdout) == (0, "")
