"""Ten thousand training steps on the emulated Cortex-M4F, read back and compared every hundred (`make soak`).

It tells whether a word ever differs, whether the host's memory grows, how fast the serial line is, and what bounds it.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from link_runs import SMALL, Bench, an386

from deltatrain.link import Device
from deltatrain.recovery import train_from
from deltatrain.targets import Emulator
from deltatrain_core import CoreNetwork

# The allocator may take some pages more or less; a leak of 30 bytes a step would show.
MOST_GROWTH_KB = 256
WARM = 0.1  # of the steps, before which memory settles


@dataclass(frozen=True)
class Usage:
    """Wall-clock and processor seconds since some moment: this process, and the emulator."""

    wall: float
    host: float
    emulator: float

    @staticmethod
    def now(pid: int) -> Usage:
        """Until now."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return Usage(time.monotonic(), time.process_time(), ticks / os.sysconf("SC_CLK_TCK"))

    def since(self, before: Usage) -> Usage:
        """The difference."""
        return Usage(self.wall - before.wall, self.host - before.host, self.emulator - before.emulator)


def resident_kb() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() // 1024


def main() -> int:
    """Run the soak; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=100, help="steps between two comparisons")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.build(SMALL, Path(folder))
        core = CoreNetwork(bench.model)
        bench.settings.apply(core)
        words = different = instructions = 0
        training = Usage(0.0, 0.0, 0.0)
        comparing = training
        trained_bytes = 0
        memory: list[int] = []
        with Emulator.start(an386(), bench.elf) as emulator, Device.open(emulator.port) as device:
            bench.settings.apply(device)
            at, link = Usage.now(emulator.pid), device.counters
            bytes_before = link.bytes_out + link.bytes_in
            for done in train_from(device, bench.settings, bench.sample_at, 0, given.steps):
                instructions += (done.result.instructions or 0) if done.result is not None else 0
                if done.step % given.every:
                    continue
                now = Usage.now(emulator.pid)
                training = _sum(training, now.since(at))
                trained_bytes += link.bytes_out + link.bytes_in - bytes_before
                for position in range(done.step - given.every, done.step):
                    bench.sample_at(position).train_whole(core)
                at = Usage.now(emulator.pid)
                compared = bench.words_different(device, core)
                comparing = _sum(comparing, Usage.now(emulator.pid).since(at))
                words, different = words + compared[0], different + compared[1]
                memory.append(resident_kb())
                if len(memory) % 10 == 0:
                    print(f"step {done.step}: {words} words, {different} differ, {memory[-1]} KB", flush=True)
                at, bytes_before = Usage.now(emulator.pid), link.bytes_out + link.bytes_in
            totals = device.statistics()
    steps = given.steps
    print(
        f"{steps} steps of an LSTM {SMALL['n_in']}→{SMALL['n_hidden']} with {bench.n_frames} frames, "
        f"{totals.samples_trained} trained by the device; {words} words compared, {different} differ"
    )
    print(
        f"training: {steps / training.wall:.1f} steps/s, {trained_bytes / training.wall:.0f} bytes/s both ways, "
        f"{trained_bytes / steps:.0f} bytes and {instructions / steps / 1e6:.2f} million instructions a step; "
        f"{link.repeated} of {link.frames} frames sent again"
    )
    print(
        f"a step takes {1000 * training.wall / steps:.2f} ms: {1000 * training.host / steps:.2f} ms of this process, "
        f"{1000 * training.emulator / steps:.2f} ms of the emulator, the rest is waiting for one another and for others"
    )
    rate = words * 2 / comparing.wall
    print(f"reading back: {rate:.0f} bytes/s of weights")
    warm = memory[int(WARM * len(memory)) :]
    growth = warm[-1] - warm[0]
    print(
        f"memory of the host: {memory[0]} KB after {given.every} steps, {memory[len(memory) // 2]} KB in the middle, "
        f"{memory[-1]} KB at the end; {growth:+d} KB since a tenth of the way"
    )
    return different > 0 or totals.samples_trained != steps or growth > MOST_GROWTH_KB


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(a.wall + b.wall, a.host + b.host, a.emulator + b.emulator)


if __name__ == "__main__":
    sys.exit(main())
