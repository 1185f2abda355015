"""Fuzz long: each harness for some millions of inputs, then the lines reached; also a program: `--help`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from fuzzers import FUZZERS, coverage, minimise, run
from rich.console import Console

from deltatrain.cli.terminal import table


@click.command()
@click.option("--inputs", default=10_000_000, show_default=True, help="Of each harness, at most.")
@click.option("--minutes", default=20.0, show_default=True, help="For each harness, at most.")
@click.option("--seed", default=1, show_default=True, help="Of libFuzzer.")
@click.option("--only", type=click.Choice([fuzzer.name for fuzzer in FUZZERS]), help="This harness alone.")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/fuzz"),
    show_default=True,
    help="Folder for inputs that fail.",
)
@click.option("--update-corpus", is_flag=True, help="Put the minimised inputs in place of the committed ones.")
def main(inputs: int, minutes: float, seed: int, only: str | None, artifacts: Path, update_corpus: bool) -> None:
    """Fuzz from the committed inputs on, and print how many inputs ran, how fast, what they found and reached.

    Exit status 1 when an input fails; it is kept in --artifacts.
    """
    artifacts.mkdir(parents=True, exist_ok=True)
    runs, lines, findings = [], [], 0
    for fuzzer in FUZZERS:
        if only not in (None, fuzzer.name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found, least = Path(folder) / "found", Path(folder) / "least"
            found.mkdir()
            least.mkdir()
            program = fuzzer.build(Path(folder))
            seeds = fuzzer.seeds(Path(folder) / "seeds")
            outcome = run(
                fuzzer,
                program,
                found,
                fuzzer.corpus,
                seeds,
                artifacts=artifacts,
                seconds=round(60 * minutes),
                inputs=inputs,
                seed=seed,
            )
            if outcome.findings:
                findings += 1
                click.echo(outcome.words[-4000:], err=True)
            minimise(fuzzer, program, least, seeds, fuzzer.corpus, found)
            kept = list(least.iterdir())
            runs.append(
                (
                    fuzzer.name,
                    f"{outcome.inputs:,}",
                    f"{outcome.rate:,}",
                    str(outcome.edges),
                    str(outcome.findings),
                    f"{len(kept)}, {sum(path.stat().st_size for path in kept):,} bytes",
                )
            )
            for name, reached in coverage(fuzzer, least).items():
                missed = " ".join(map(str, reached.missed))
                lines.append((fuzzer.name, name, f"{reached.covered} of {reached.lines}", missed))
            if update_corpus:
                fuzzer.corpus.mkdir(parents=True, exist_ok=True)
                for path in fuzzer.corpus.iterdir():
                    path.unlink()
                for path in kept:
                    (fuzzer.corpus / path.name).write_bytes(path.read_bytes())
    console = Console()
    console.print(table(("harness", "inputs", "a second", "edges", "findings", "minimised"), runs))
    console.print(table(("harness", "source", "lines reached", "not reached"), lines))
    raise SystemExit(findings > 0)


if __name__ == "__main__":
    main()
