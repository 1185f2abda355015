"""Every snippet of the README runs as it stands there; what the pages in docs name exists."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
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


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))])
def test_commands_and_options_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", "")
    for line in re.findall(r"deltatrain ([a-z]+[^\n`]*)", text):
        name, *words = line.split()
        if name not in COMMANDS:
            continue  # prose
        command = COMMANDS[name].load()
        if isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), words.pop(0).rstrip(";.,"))
            assert inner is not None, line
            command = inner
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_the_imports_of_python_snippets_exist() -> None:
    for page in ROOT.glob("docs/*.md"):
        for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S):
            for module, names in re.findall(r"^from (deltatrain[a-z_.]*) import (.*)$", code, flags=re.M):
                found = importlib.import_module(module)
                for name in names.split(", "):
                    assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), (page.name, name)


def test_files_that_it_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `([a-z_/]+)` \|", TEXT, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
