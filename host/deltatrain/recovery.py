"""Training each sample exactly once, over a line that fails and on a device that restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deltatrain.errors import LinkInterrupted, SampleRefused
from deltatrain.link import Device, DeviceResult
from deltatrain.training import Sample, Settings

DEFAULT_PATIENCE = 8


@dataclass(frozen=True)
class Trained:
    """One sample that the device has dealt with.

    Attributes
    ----------
    position : int
        Of the sample in its sequence.
    step : int
        The device's step counter after it.
    result : DeviceResult or None
        None where the step was applied and its answer lost, or the sample was refused.
    refused : bool
        The device dropped it, for its events exceed the firmware's budget: no step.
    """

    position: int
    step: int
    sample: Sample
    result: DeviceResult | None
    refused: bool = False


def train_from(
    device: Device,
    settings: Settings,
    sample_at: Callable[[int], Sample],
    first: int,
    end: int,
    *,
    patience: int = DEFAULT_PATIENCE,
    on_interruption: Callable[[LinkInterrupted], None] | None = None,
) -> Iterator[Trained]:
    """Train the samples at positions `first` to `end` - 1, each exactly once.

    The device must be configured by `settings`, and its step counter be that of the sample at `first`. After an
    interruption it is configured anew, and training goes on with the sample that follows the device's last step: one
    that restarted may have gone back, to its last commit or to the model in flash, and then earlier positions come
    again, also those before `first`. The caller may use the device between two samples; an interruption there, which it
    has to bear, is noticed here as well.

    Parameters
    ----------
    sample_at : callable
        The sample at a position; the same whenever it is asked.
    patience : int
        So many interruptions without a step in between are borne.
    on_interruption : callable, optional
        Told of each.

    Raises
    ------
    LinkInterrupted
        After too many interruptions in a row, or where the device's steps no longer lead to a position of the sequence.
    DeviceError
        If the device no longer answers.
    """
    first_step = step = device.config().step
    session = device.info
    configured = True
    refused: set[int] = set()
    position = first
    interruptions = 0
    while position < end:
        sample = sample_at(position)
        try:
            if not configured:
                settings.apply(device, step)
                configured = True
            result: DeviceResult = sample.train_whole(device)
        except SampleRefused:
            refused.add(position)
            yield Trained(position, step, sample, None, refused=True)
            position += 1
        except LinkInterrupted as interruption:
            if on_interruption is not None:
                on_interruption(interruption)
            interruptions += 1
            if interruptions > patience:
                raise
            if configured and not interruption.restarted and interruption.step == step + 1:
                interruptions = 0
                yield Trained(position, step + 1, sample, None)
        else:
            step += 1
            interruptions = 0
            yield Trained(position, step, sample, result)
            position += 1
        if device.info is not session:  # interrupted above, or in what the caller did between two samples
            session, step, configured = device.info, device.info.step, False
            position = _position(first, step - first_step, refused)
            if not 0 <= position <= end:
                raise LinkInterrupted(
                    f"the device is at step {step} now, which belongs to no sample of this training (from step "
                    f"{first_step} on); start training anew",
                    restarted=True,
                    step=step,
                )


def _position(first: int, steps: int, refused: set[int]) -> int:
    """Where a sequence stands after `steps` steps from `first` on, those skipped that were refused."""
    position = first + steps
    for skipped in sorted(refused):
        position += skipped <= position
    return position
