"""An IMU that gives a recording again, and the person who knows what each window of it was."""

from deltarnn_tools import samples


class ReplayImu:
    """Reading by reading the samples of a file; `ask` answers for the person, window by window."""

    def __init__(self, name: str, n_in: int) -> None:
        self._readings: list[list[int]] = []
        self.labels: list[int] = []
        self.guesses: list[str] = []
        for frames, label in samples(name):
            self._readings += [list(frames[k : k + n_in]) for k in range(0, len(frames), n_in)]
            self.labels.append(label)

    def read(self) -> "list[int]":
        return self._readings.pop(0)

    def ask(self, names: "tuple[str, ...]", guess: int) -> int:
        self.guesses.append(names[guess])
        return self.labels.pop(0)
