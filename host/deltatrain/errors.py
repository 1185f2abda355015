"""What can go wrong, as one tree: each message says what failed, with which value, and what to do next.

The command line turns `CheckFailed` into exit status 1 and every other `DeltatrainError` into exit status 2.
"""


class DeltatrainError(Exception):
    """Base of every error that deltatrain raises on purpose."""


class CheckFailed(DeltatrainError):
    """A comparison or check ran to its end, and what it compared differs."""


class InputError(DeltatrainError):
    """A value, option, shape or label from the user is out of range."""


class DataError(DeltatrainError):
    """A data set is absent or one of its files cannot be used."""


class ModelError(DeltatrainError):
    """A model file is foreign, truncated, or does not fit its use."""


class BuildError(DeltatrainError):
    """The toolchain is missing, refused a source, or the result does not fit the target."""


class SampleRefused(DeltatrainError):
    """A sample's events exceed the model's budget: the engine dropped it, trained nothing, and counted it."""


class DeviceError(DeltatrainError):
    """The board, the emulator or the line between did not answer as agreed."""


class LinkInterrupted(DeviceError):
    """The session with a device was lost, and a new one is open: the device restarted, or another program took it.

    The sample under way is gone, and so may be the configuration; `step` tells whether its training step was applied.

    Attributes
    ----------
    restarted : bool
        Whether the device restarted: what it had not committed is lost.
    step : int
        The device's step counter now.
    """

    def __init__(self, message: str, *, restarted: bool, step: int) -> None:
        super().__init__(message)
        self.restarted = restarted
        self.step = step
