"""The C core against the integer reference over thousands of random training steps, by every compiler and level.

    python tests/study_equality.py [--steps 12000] [--jobs 2]

Cells, stacks, shapes, formats, thresholds, lengths, scales, β and seeds are drawn by `equality.run`. The steps are
dealt out to the builds, a fifth of them or more with at least 32 hidden units and 40 frames, and every build also takes
one step at each end of the ranges. Every word is compared after every step. The last line is `N steps, M words
compared, 0 words differ`; where one does, exit status 1, the first tensor and index with both values,
and how to repeat it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from equality import EXTREMES, LARGE_FRAMES, LARGE_HIDDEN, run, train_at, use_library
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import deltatrain_core

LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os", "-O3 -march=native")
BUILDS = [f"{compiler} {level}" for compiler in ("gcc", "clang") for level in LEVELS]
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
STEPS_PER_SHARD = 100
LARGE_EVERY = 5  # of so many rounds over the builds, one is of large models


@dataclass(frozen=True)
class Shard:
    """Random steps on one build; `steps` of 0 stands for the ends of the ranges."""

    build: str
    library: Path
    steps: int
    seed: int
    large: bool

    @property
    def command(self) -> str:
        """How to run it alone."""
        large = " --large" if self.large else ""
        return f"python tests/study_equality.py --build '{self.build}' --steps {self.steps} --seed {self.seed}{large}"


@dataclass(frozen=True)
class Outcome:
    """Words that agree, or what the first difference is."""

    shard: Shard
    steps: int
    words: int
    difference: str | None = None


def compile_core(build: str, folder: Path) -> Path:
    """The C core as a shared library, by one of BUILDS."""
    library = folder / f"{build.replace(' ', '')}.so"
    sources = [str(path) for path in deltatrain_core.sources()]
    flags = ["-std=c11", *WARNINGS, "-shared", "-fPIC", f"-I{deltatrain_core.include_dir()}"]
    subprocess.run([*build.split(), *flags, *sources, "-o", str(library)], check=True)
    return library


def compare(shard: Shard) -> Outcome:
    """Train core and reference side by side; stops at the first difference."""
    use_library(shard.library)
    try:
        if shard.steps:
            return Outcome(shard, shard.steps, run(shard.steps, shard.seed, shard.large))
        return Outcome(shard, len(EXTREMES), sum(train_at(extreme()) for extreme in EXTREMES.values()))
    except AssertionError as difference:
        return Outcome(shard, 0, 0, str(difference))


def shards_of(libraries: dict[str, Path], steps: int, seed: int) -> list[Shard]:
    """The extremes on every build, and `steps` random steps dealt out in turn, each shard with a seed of its own."""
    shards = [Shard(name, library, 0, 0, False) for name, library in libraries.items()]
    names = list(libraries)
    for number, start in enumerate(range(0, steps, STEPS_PER_SHARD)):
        round_, place = divmod(number, len(names))
        size = min(STEPS_PER_SHARD, steps - start)
        large = round_ % LARGE_EVERY == 0
        shards.append(Shard(names[place], libraries[names[place]], size, seed + number, large))
    return shards


def main() -> int:
    """Run the study; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12_000, help="random training steps in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first shard; the others count up from it")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--build", choices=BUILDS, help="run --steps and --seed on this build alone (0: the extremes)")
    parser.add_argument("--large", action="store_true", help="with --build: large models")
    given = parser.parse_args()
    builds = [given.build] if given.build else [name for name in BUILDS if shutil.which(name.split()[0])]
    if not builds:
        parser.error("neither gcc nor clang is installed; `make setup` installs them")
    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with tempfile.TemporaryDirectory() as folder:
        libraries = {name: compile_core(name, Path(folder)) for name in builds}
        shards = shards_of(libraries, given.steps, given.seed)
        if given.build:
            shards = [Shard(given.build, libraries[given.build], given.steps, given.seed, given.large)]
        outcomes: list[Outcome] = []
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("training steps", total=sum(shard.steps or len(EXTREMES) for shard in shards))
            finished = Parallel(n_jobs=given.jobs, return_as="generator_unordered")(delayed(compare)(s) for s in shards)
            for outcome in finished:
                outcomes.append(outcome)
                progress.advance(task, outcome.steps)
                if outcome.difference is not None:
                    break
    last = outcomes[-1]
    if last.difference is not None:
        print(f"{last.difference}\nOnce more: {last.shard.command}")
        return 1
    large = sum(outcome.steps for outcome in outcomes if outcome.shard.large)
    print(f"{len(libraries)} builds: {', '.join(libraries)}")
    print(f"{large} of the steps with {LARGE_HIDDEN} hidden units and {LARGE_FRAMES} frames or more")
    steps, words = sum(outcome.steps for outcome in outcomes), sum(outcome.words for outcome in outcomes)
    print(f"{steps} steps, {words} words compared, 0 words differ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
