"""The whole trainer: forward, loss, backward through time, clip, update. NUMERICS.md is what it follows."""

from array import array

from . import replay, scales, state
from .formats import GUARD_BITS
from .image import INFERENCE, LAST, READOUT_NAMES, Image
from .layer import Layer
from .readout import Readout
from .settings import Settings
from .sgd import Stepper
from .targets import numbers, read_class, read_frames, read_targets

_RESULT = (  # drnn_result_t
    ("loss", "predicted", "n_steps", "active_x", "active_h", "macs_forward", "macs_backward", "macs_gradient")
    + ("columns_updated", "clipped", "grad_exponent", "dm_exponent", "bound_m", "bound_e", "saturated_h")
    + ("saturated_c", "saturated_grad", "saturated_w", "underflow_dm", "n_targets", "n_wrong", "macs_recomputed")
)
_TRAINED = {"weight": "h", "bias": "i"}


class Network:
    """Delta layers, one upon the other, and a readout, trained by SGD. deltarnn.pyi says what each method does."""

    def __init__(self, model, arena=None) -> None:
        self._image = image = Image(model)  # its file stays open until `close`, for `reset` and `replay`
        self._is_open = True
        self.n_in, self.n_outputs, self.n_layers = image.layers[0].n_in, image.n_outputs, len(image.layers)
        self.max_steps, self.readout, self.names = image.max_steps, READOUT_NAMES[image.readout], image.names
        self._settings = Settings(image)
        self._counts = _no_counts()
        self._n_refused = 0
        self.reset()

    def reset(self) -> None:
        self._check_open()
        self._layers: list[Layer] = []  # the old ones go before the new ones come
        self._layers = [Layer(self._image, number) for number in range(self.n_layers)]
        self._readout = Readout(self._image)
        self._in_sample, self._n_trained = False, 0

    def configure(
        self,
        learning_rate: "tuple[int, int] | None" = None,
        clip: "tuple[int, int] | None" = None,
        theta_x: "tuple[int, ...] | None" = None,
        theta_h: "tuple[int, ...] | None" = None,
        beta: "tuple[int, int] | None" = None,
        seed: "int | None" = None,
        step: "int | None" = None,
    ) -> None:
        self._check_open()
        self._settings.change(
            learning_rate=learning_rate, clip=clip, theta_x=theta_x, theta_h=theta_h, beta=beta, seed=seed, step=step
        )

    # One sample, frame by frame

    def begin(self) -> None:
        self._check_open()
        for number, layer in enumerate(self._layers):
            layer.begin(self._settings.theta_x[number], self._settings.theta_h[number])
        self._readout.begin()
        self._counts = _no_counts()
        self._in_sample, self._n_trained = True, 0

    def push(self, frame, target=None) -> int:
        self._check_sample(0)
        frames = read_frames(self._image, frame)
        if len(frames) != 1:
            raise ValueError("%d frames at once" % len(frames))
        targets = [None] if target is None else read_targets(self._image, target, 1)
        if self._counts["n_steps"] == self.max_steps:
            raise ValueError("the sample has %d frames already, all that the model takes" % self.max_steps)
        self._push(frames[0], targets[0])
        return self._counts["n_steps"]

    def infer(self) -> int:
        self._check_sample(1)
        counts = self._counts
        self._readout.forward(self._layers[-1].h)
        counts["loss"] = self._readout.mean_loss(counts)
        counts["predicted"] = self._readout.largest()
        return counts["predicted"]

    def train(self, label: "int | None" = None) -> int:
        self._check_trains()
        self._check_sample(1)
        if self._image.readout == LAST:
            if label is None:
                raise ValueError("the model's readout takes a class at the end")
            checked = read_class(self._image, label)
            self.infer()
            return self._train_last(checked)
        if label is not None:
            raise ValueError("the model's readout takes targets of frames, no class at the end")
        if not self._counts["n_targets"]:
            raise ValueError("no frame of the sample has a target")
        self.infer()
        return self._learn()

    # One sample as a whole

    def forward(self, frames) -> int:
        self._check_open()
        checked = read_frames(self._image, frames)
        self.begin()
        for frame in checked:
            self._push(frame, None)
        return self.infer()

    def train_step(self, frames, target) -> int:
        self._check_trains()
        checked = read_frames(self._image, frames)
        if self._image.readout == LAST:
            return self._train_sample(checked, [None] * len(checked), read_class(self._image, target))
        targets = read_targets(self._image, target, len(checked))
        if targets.count(None) == len(targets):
            raise ValueError("no frame has a target")
        return self._train_sample(checked, targets, 0)

    def replay(self) -> int:
        self._check_trains()
        number = replay.draw(self._image.n_exemplars, self._settings.seed, self._settings.step)
        frames, label = replay.exemplar(self._image, number)
        self._train_sample(frames, replay.targets(self._image, len(frames), label), label)
        return number

    # What came of it

    @property
    def loss(self) -> int:
        self._check_open()
        return self._counts["loss"]

    def stats(self) -> "dict[str, int]":
        self._check_open()
        values = dict(self._counts)
        values["step"], values["n_refused"] = self._settings.step, self._n_refused
        return values

    def outputs(self) -> "array[int]":
        return self.tensor("logits")

    def hidden(self) -> "array[int]":
        return self.tensor("layer%d.hidden" % (self.n_layers - 1))

    def tensor(self, name: str) -> "array[int]":
        self._check_open()
        part, _, kind = name.partition(".")
        owner = self._owner(part)
        if name == "logits":
            return self._readout.outputs[:]
        if owner and kind in _TRAINED:
            return getattr(owner, kind)[:]
        if owner and owner is not self._readout:
            if kind == "hidden":
                return owner.h[:]
            if kind == "cell" and owner.has_c:
                return owner.c[:]
            if kind == "dm":
                return self._d_m(owner)
        raise ValueError("there is no tensor %s" % name)

    def set_tensor(self, name: str, values) -> None:
        self._check_open()
        part, _, kind = name.partition(".")
        owner = self._owner(part)
        if not owner or kind not in _TRAINED:
            raise ValueError("there is no trained tensor %s" % name)
        new, old = numbers(values, _TRAINED[kind]), getattr(owner, kind)
        if len(new) != len(old):
            raise ValueError("%d numbers for %s, which has %d" % (len(new), name, len(old)))
        setattr(owner, kind, new)
        self._in_sample = False

    # Files

    def save(self, file) -> None:
        self._check_open()
        state.write(file, self._image.hash, self._settings, self._owners())

    def load(self, file) -> None:
        self._check_open()
        state.read(file, self._image.hash, self._settings, self._owners())
        self._in_sample = False

    def close(self) -> None:
        self._image.blob.close()
        self._is_open = self._in_sample = False

    # What all of this is made of

    def _push(self, frame: "array[int]", target: "int | list[int] | None") -> None:
        counts, t, v = self._counts, self._counts["n_steps"], frame
        for layer in self._layers:
            v = layer.push(v, counts)
            if layer.n_events > layer.max_events:
                self._n_refused += 1
                self._in_sample = False
                raise OverflowError("frame %d has more events than the model's budget: the sample is dropped" % t)
        counts["n_steps"] = t + 1
        if target is not None:
            self._readout.forward(v)
            self._readout.judge(t, target, counts)

    def _train_sample(self, frames: "list[array[int]]", targets: "list[int | list[int] | None]", label: int) -> int:
        self.begin()
        for frame, target in zip(frames, targets):
            self._push(frame, target)
        self.infer()
        return self._train_last(label) if self._image.readout == LAST else self._learn()

    def _train_last(self, label: int) -> int:
        counts = self._counts
        # Before the target, so that its gradient is rounded once.
        self._readout.make_room(self._settings.beta, 1, counts)
        self._readout.judge(counts["n_steps"] - 1, label, counts)
        return self._learn()

    def _learn(self) -> int:
        """Backward and update, from the targets that the sample was given."""
        counts, settings = self._counts, self._settings
        counts["loss"] = self._readout.mean_loss(counts)
        self._backward(self._readout.make_room(settings.beta, self._readout.n_errors(counts), counts))
        stepper = Stepper(self._step_size(), settings.seed, settings.step, counts)
        self._readout.update(stepper, counts["grad_exponent"])
        for layer in self._layers:
            layer.update(stepper, counts["grad_exponent"], counts)
        settings.step = (settings.step + 1) & 0xFFFFFFFF
        self._in_sample, self._n_trained = False, counts["n_steps"]
        return counts["loss"]

    def _backward(self, beta: int) -> None:
        """dM_t of every layer and step, time-major: what a layer's inputs get is used by the one below at once."""
        layers, counts = self._layers, self._counts
        self._readout.begin_backward()
        for layer in layers:
            layer.begin_backward()
        for t in range(counts["n_steps"] - 1, -1, -1):
            layers[-1].receive(self._readout.step_back(t, layers[-1].history[t].h, counts), counts)
            for number in range(len(layers) - 1, -1, -1):
                layers[number].step_back(t, beta, layers[number - 1] if number else None, counts)
        counts["dm_exponent"] = max([layer.exponent for layer in layers])

    def _step_size(self) -> tuple[int, int]:
        """Learning rate / N min(1, N C / B), with B no less than the norm of the gradient, a sum over N errors."""
        counts, settings = self._counts, self._settings
        unit, bound = counts["grad_exponent"] - 14, (0, 0)
        for layer in self._layers:
            bound = scales.add_ceil(bound, scales.ceil(layer.bound(), layer.exponent - GUARD_BITS + unit))
        bound = scales.add_ceil(bound, scales.ceil(self._readout.bound, unit))
        counts["bound_m"], counts["bound_e"] = bound
        n = scales.ceil(self._readout.n_errors(counts), 0)
        if not scales.is_greater(bound, scales.multiply(settings.clip, n)):
            return scales.divide(settings.learning_rate, n)
        counts["clipped"] = 1
        return scales.divide(scales.multiply(settings.learning_rate, settings.clip), bound)

    def _owners(self) -> "list[Layer | Readout]":
        """Of the trained tensors, in the order of a file."""
        owners: list[Layer | Readout] = list(self._layers)
        owners.append(self._readout)
        return owners

    def _owner(self, part: str):
        """Of the tensors whose names begin so; None where there is none."""
        for number, layer in enumerate(self._layers):
            if part == "layer%d" % number:
                return layer
        return self._readout if part == "readout" else None

    def _d_m(self, layer: Layer) -> "array[int]":
        """Of the last training step [T][A H], as much as the C core holds; empty during a sample."""
        d_m = array("h")
        for step in layer.history[: min(self._n_trained, self._image.window)]:
            d_m.extend(step.gates)
        return d_m

    def _check_open(self) -> None:
        if not self._is_open:
            raise ValueError("the network is closed")

    def _check_sample(self, n_frames: int) -> None:
        self._check_open()
        if not self._in_sample:
            raise ValueError("no sample is under way; begin() one")
        if self._counts["n_steps"] < n_frames:
            raise ValueError("the sample has no frame")

    def _check_trains(self) -> None:
        self._check_open()
        if self._image.memory == INFERENCE:
            raise ValueError("the model was built for inference only")


def _no_counts() -> "dict[str, int]":
    return dict.fromkeys(_RESULT, 0)
