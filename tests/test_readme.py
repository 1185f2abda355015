"""Every snippet of the README runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deltatrain.cli import COMMANDS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(bash|python)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "code"), SNIPPETS, ids=[language for language, _ in SNIPPETS])
def test_snippet_runs(language: str, code: str, tmp_path: Path) -> None:
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        # The environment that runs the tests stands for the one that the snippet activates.
        (tmp_path / ".venv").symlink_to(Path(sys.prefix))
        command = ["bash", "-euxc", code]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_commands_and_options_that_it_names_exist() -> None:
    for line in re.findall(r"deltatrain ([a-z]+[^\n`]*)", TEXT):
        name, *words = line.split()
        if name not in COMMANDS:
            continue  # prose
        known = {option for parameter in COMMANDS[name].load().params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_files_that_it_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `([a-z_/]+)` \|", TEXT, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
