# mypy: ignore-errors
"""Random calls of the module, most of them wrong: each returns or raises one of the exceptions that deltarnn.pyi names.

Runs under MicroPython. Between them a network that no wrong call concerns is trained, and must compute what it computes
alone: a call that wrote where it may not would show there, if the interpreter survived it.
"""

import gc
from array import array

EXPECTED = (ValueError, TypeError, OSError, OverflowError, AttributeError, MemoryError)
METHODS = [
    "begin",
    "close",
    "configure",
    "forward",
    "hidden",
    "infer",
    "load",
    "outputs",
    "push",
    "replay",
    "reset",
    "save",
    "set_tensor",
    "stats",
    "tensor",
    "train",
    "train_step",
]
NAMES = ["n_in", "n_outputs", "n_layers", "max_steps", "readout", "names", "loss", "nothing"]
TENSORS = [
    "layer0.weight",
    "layer0.bias",
    "layer0.hidden",
    "layer0.cell",
    "layer0.dm",
    "layer2.dm",
    "readout.weight",
    "readout.bias",
    "logits",
]
SETTINGS = ["learning_rate", "clip", "theta_x", "theta_h", "beta", "seed", "step"]


class Hostile(Exception):
    """What a file object of the user's may raise."""


class HostileFile:
    """A file object whose methods do what they should not."""

    def __init__(self, calls, kind):
        self.calls, self.kind = calls, kind

    def read(self, *size):
        return self.act()

    def write(self, data):
        return self.act()

    def act(self):
        net = self.calls.any_net()
        if self.kind == 0:
            raise Hostile()
        if self.kind == 1 and net is not None:
            net.close()
        if self.kind == 2 and net is not None:
            net.load(HostileFile(self.calls, 3))
        if self.kind == 3:
            return self.calls.value(0)
        if self.kind == 4:
            self.calls.resize()
        gc.collect()
        return self.calls.model[: self.calls.below(200)]


class Calls:
    """A run of random calls of `deltarnn`; `models` are bytes of whole files, trained from by its networks."""

    def __init__(self, deltarnn, models, seed):
        self.deltarnn, self.models, self.state = deltarnn, models, seed * 2654435761 + 1 & 0xFFFFFFFF
        self.nets, self.arenas, self.model = [], [], models[0]
        self.n_raised = 0

    def below(self, n):
        """A random integer in [0, n)."""
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return (x >> 3) % n

    def pick(self, items):
        return items[self.below(len(items))]

    # ---- values

    def number(self):
        return self.pick(
            (
                0,
                1,
                -1,
                2,
                3,
                4,
                5,
                255,
                32767,
                -32768,
                65535,
                65536,
                2**30,
                -(2**31),
                2**31,
                2**32 - 1,
                2**32,
                2**40,
                -(2**70),
            )
        )

    def buffer(self):
        n, kind = self.below(70), self.below(9)
        if kind == 0:
            return bytes(n)
        if kind == 1:
            return bytearray(self.below(3000))
        if kind == 2:
            return array("i", [self.below(70000) - 35000 for _ in range(n)])
        if kind == 3:
            return array("f", [0.5] * n)
        if kind == 4:
            return memoryview(bytes(2 * n + 9))[1 + self.below(8) :]
        if kind == 5 and self.arenas:
            return memoryview(self.pick(self.arenas))[self.below(16) :]
        if kind == 6:
            return memoryview(array("h", range(n + 1)))[1:]
        limit = self.pick((100, 17000, 32767))
        return array("h", [self.below(2 * limit) - limit for _ in range(self.pick((5, 10, 25, 35, 60, n)))])

    def changed_model(self):
        data = bytearray(self.pick(self.models))
        for _ in range(self.below(3)):
            data[self.below(len(data))] = self.below(256)
        return self.pick((data, bytes(data), bytes(data[: self.below(len(data))]), memoryview(data)[self.below(9) :]))

    def value(self, depth=1):
        kind = self.below(12)
        if kind < 3:
            return self.number()
        if kind < 6:
            return self.buffer()
        if kind == 6:
            return self.pick(
                (None, True, False, 1.5, "", "x", "no/such/file", "layer0.", object(), len, range(3), {}, 1j)
            )
        if kind == 7:
            return self.pick(TENSORS)
        if kind == 8:
            return self.changed_model()
        if kind == 9 and depth:
            return HostileFile(self, self.below(6))
        if kind == 10 and self.nets:
            return self.pick(self.nets)
        items = [self.number() for _ in range(self.below(6))]
        return self.pick((items, tuple(items), [items], (self.buffer(), None)))

    # ---- calls

    def any_net(self):
        return self.pick(self.nets) if self.nets else None

    def make(self):
        """A network, as it should be or not; sometimes in the arena of another."""
        model = self.pick(
            (self.pick(self.models), self.pick(self.models), bytearray(self.pick(self.models)), self.value())
        )
        kind = self.below(6)
        if kind == 0:
            arena = self.value()
        elif kind == 1 and self.arenas:
            arena = self.pick(self.arenas)
        else:
            arena = bytearray(self.deltarnn.arena_size(model) + self.pick((0, 0, 0, 8, -1, -8)))
        if kind == 2:
            arena = memoryview(arena)[self.below(2) :]
        net = self.deltarnn.Network(model, arena)
        if len(self.nets) == 3:
            place = self.below(3)
            self.nets[place], self.arenas[place] = net, arena
        else:
            self.nets.append(net)
            self.arenas.append(arena)

    def resize(self):
        """Let an arena grow under its network."""
        if self.arenas:
            place = self.below(len(self.arenas))
            if isinstance(self.arenas[place], bytearray):
                self.arenas[place].extend(bytes(self.below(2000)))

    def sample(self, net):
        """Frames that mostly fit."""
        n = net.n_in * (1 + self.below(net.max_steps + 1)) + (self.below(8) == 0)
        return array("h", [self.below(20000) - 10000 for _ in range(n)])

    def call(self):
        """One call."""
        kind = self.below(20)
        net = self.any_net()
        if net is None or kind == 0:
            return self.make()
        if kind == 1:
            return self.pick((self.deltarnn.arena_size, self.deltarnn.Network))(
                *[self.value() for _ in range(self.below(4))]
            )
        if kind == 2:
            return getattr(net, self.pick(NAMES))
        if kind == 3:
            return setattr(net, self.pick(NAMES + METHODS), self.value())
        if kind == 4:
            return getattr(self.deltarnn.Network, self.pick(METHODS))(*[self.value() for _ in range(self.below(4))])
        if kind == 5:
            return net.configure(**{self.pick(SETTINGS): self.value() for _ in range(self.below(4))})
        if kind == 6:
            return net.train_step(self.sample(net), self.pick((self.below(4), self.value(), [self.below(4) - 1] * 3)))
        if kind == 7:
            net.begin()
            return net.push(self.value(), self.value())
        if kind == 8:
            return net.set_tensor(self.pick(TENSORS), self.pick((net.tensor(self.pick(TENSORS)), self.value())))
        if kind == 9:
            return net.load(HostileFile(self, self.below(6)))
        if kind == 10:
            return net.save(HostileFile(self, self.below(6)))
        if kind == 11 and self.below(4) == 0:
            return self.resize()
        if kind == 12 and self.below(4) == 0:
            gc.collect()
        return getattr(net, self.pick(METHODS))(*[self.value() for _ in range(self.below(4))])

    def run(self, n_calls):
        """Make calls; what they raised is counted where it was to be expected, and ends the run where it was not."""
        for _ in range(n_calls):
            try:
                self.call()
            except Hostile:
                self.n_raised += 1
            except EXPECTED:
                self.n_raised += 1


def watch(deltarnn, model):
    """A network on `model`, and a function that trains it a step and tells loss and a sum over its weights."""
    net = deltarnn.Network(model, bytearray(deltarnn.arena_size(model)))
    net.configure(seed=7)

    def step(number):
        frames = array("h", [(k * 7919 + number * 104729) % 9000 - 4500 for k in range(net.n_in * net.max_steps)])
        loss = net.train_step(frames, number % net.n_outputs)
        return loss, sum([(k + 1) * w for k, w in enumerate(net.tensor("layer0.weight"))])

    return step


def bad_calls(deltarnn, models, n_calls, seed, every=250):
    """Make n_calls; prints how many raised, and how often the network between them was as it should be."""
    alone, among = watch(deltarnn, models[0]), watch(deltarnn, models[0])
    calls = Calls(deltarnn, models, seed)
    for number in range(n_calls // every):
        calls.run(every)
        gc.collect()
        expected, found = alone(number), among(number)
        if found != expected:
            raise AssertionError("after %d calls: %s, not %s" % ((number + 1) * every, found, expected))
    print(n_calls, "calls,", calls.n_raised, "raised,", n_calls // every, "steps between them as they should be")
