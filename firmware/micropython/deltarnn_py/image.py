"""A model's file, `.drnn`. docs/MODEL_FILE.md says what each byte is."""

from array import array

from . import scales
from .blob import Blob

MAGIC, VERSION = 1313755716, 1
RNN, GRU, LSTM = 0, 1, 2
LAST, FRAMES, REGRESSION = 0, 1, 2
HISTORY, CHECKPOINTS, INFERENCE = 0, 1, 2
READOUT_NAMES = ("last", "frames", "regression")
MAX_LAYERS = 3
_HEAD, _HEAD_START, _HEAD_BYTES = "<HHHBbBBHHHHhHhIIIIIIIII", 16, 108  # without what `Blob` reads
_HASH_AT, _HASH_BYTES = 76, 32
_LAYER, _LAYER_BYTES = "<BbbbbBHHhhHII", 24
_N_GATES, _N_ACCUMULATORS = (1, 3, 4), (1, 4, 4)  # by cell
_MAX_STEPS, _MAX_WIDTH, _MAX_OUTPUTS = 4096, 1024, 256


class LayerImage:
    """A recurrent layer: its sizes, Q-formats and thresholds, and its tensors in the file."""

    def __init__(self, blob: Blob, number: int) -> None:
        fields = blob.unpack(_LAYER, _HEAD_BYTES + number * _LAYER_BYTES)
        self.cell, self.x_bits, self.wx_bits, self.wh_bits, self.c_bits = fields[:5]
        self.n_in, self.n_hidden, self.theta_x, self.theta_h = fields[6:10]
        self._weight_at, self._bias_at = fields[11:]
        self._blob = blob

    def is_supported(self) -> bool:
        """Whether sizes and formats lie in the ranges of NUMERICS.md, "Bounds"."""
        return (
            self.cell <= LSTM
            and 1 <= self.n_in <= _MAX_WIDTH
            and 1 <= self.n_hidden <= _MAX_WIDTH
            and 6 <= self.x_bits <= 14
            and 8 <= self.wx_bits <= 16
            and 10 <= self.wh_bits <= 16
            and 6 <= self.c_bits <= 14
            and min(self.theta_x, self.theta_h) >= 0
        )

    def macs(self) -> int:
        """Weights, each multiplied once a step where every entry is active."""
        return (self.n_in + self.n_hidden) * _N_GATES[self.cell] * self.n_hidden

    def weight(self) -> "array[int]":
        """[n_in + n_hidden][G n_hidden]: column after column of W."""
        return self._blob.array("h", self._weight_at, self.macs())

    def bias(self) -> "array[int]":
        """[A n_hidden], one an accumulator."""
        return self._blob.array("i", self._bias_at, _N_ACCUMULATORS[self.cell] * self.n_hidden)


class Image:
    """A model. ValueError where the file cannot be used, or asks for what no network of deltatrain can be."""

    def __init__(self, source) -> None:
        """`source` is the file's name, or its bytes."""
        self.blob = blob = Blob(source, MAGIC, VERSION, "model file")
        try:
            self._read(blob)
            if not self._is_supported():
                raise ValueError("the model's dimensions, formats or cells are not supported")
        except ValueError:
            blob.close()
            raise

    def _read(self, blob: Blob) -> None:
        fields = blob.unpack(_HEAD, _HEAD_START)
        n_layers, self.n_outputs, self.max_steps, self.readout, self.readout_bits = fields[:5]
        self.memory, _, self.segment_steps, self.event_budget, self.n_exemplars = fields[5:10]
        self.learning_rate, self.clip = (fields[10], fields[11]), (fields[12], fields[13])
        self._weight_at, self._bias_at, names_at, names_bytes = fields[14:18]
        self.replay_at = fields[18:23]  # events, their bytes, start, steps, label
        self.hash = blob.bytes(_HASH_AT, _HASH_BYTES)
        if not 1 <= n_layers <= MAX_LAYERS:
            raise ValueError("the model has %d layers; 1 to %d are supported" % (n_layers, MAX_LAYERS))
        self.layers = [LayerImage(blob, number) for number in range(n_layers)]
        names = blob.bytes(names_at, names_bytes).decode().split("\0")
        self.names = tuple(names[: self.n_outputs])

    def _is_supported(self) -> bool:
        macs, below = 0, None
        for layer in self.layers:
            if not layer.is_supported():
                return False
            if below and (layer.n_in != below.n_hidden or layer.x_bits != 14):
                return False
            macs, below = macs + layer.macs(), layer
        return (
            self.readout <= REGRESSION
            and (1 if self.readout == REGRESSION else 2) <= self.n_outputs <= _MAX_OUTPUTS
            and len(self.names) == self.n_outputs
            and 1 <= self.max_steps <= _MAX_STEPS
            and self.max_steps * macs < 1 << 32
            and 10 <= self.readout_bits <= 15
            and self.memory <= INFERENCE
            and (1 <= self.segment_steps <= self.max_steps if self.memory == CHECKPOINTS else self.segment_steps == 0)
            and scales.is_learning_rate(self.learning_rate)
            and scales.is_clip(self.clip)
        )

    @property
    def window(self) -> int:
        """Frames whose history the C core holds at once, which an event budget is counted over."""
        return (self.max_steps, self.segment_steps, 1)[self.memory]

    def max_events(self, width: int) -> int:
        """Events of a layer of `width` entries that a window may have."""
        everything = self.window * width
        if not self.event_budget:
            return everything
        return max(width, -(-everything * self.event_budget >> 16))

    def readout_weight(self) -> "array[int]":
        """[n_outputs][n_hidden of the last layer]."""
        return self.blob.array("h", self._weight_at, self.n_outputs * self.layers[-1].n_hidden)

    def readout_bias(self) -> "array[int]":
        """[n_outputs]."""
        return self.blob.array("i", self._bias_at, self.n_outputs)
