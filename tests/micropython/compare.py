"""Train as recorded and compare every word; under MicroPython, as tests/test_micropython.py calls it, or CPython.

Each folder of `cases` holds a model and `steps.jsonl`: first the settings, then a training step a line, its sample and
what the C core computed. Prints `N steps, M words compared, K words differ`, and before it the first that does of each
tensor.
"""

import json
import os
from array import array

import deltarnn_py as deltarnn


def compare(folder: str) -> "tuple[int, int, int]":
    """Steps, words, and how many of these differ."""
    model = folder + "/model.drnn"
    net = deltarnn.Network(model, bytearray(deltarnn.arena_size(model)))
    n_steps = n_words = n_different = 0
    with open(folder + "/steps.jsonl") as steps:
        net.configure(**json.loads(next(steps)))
        for line in steps:
            step = json.loads(line)
            if step["frames"] is None:
                net.replay()
            else:
                net.train_step(array("h", step["frames"]), step["target"])
            found = net.stats()
            words = [(name, [found[name]], [value]) for name, value in step["result"].items()]
            words += [(name, list(net.tensor(name)), values) for name, values in step["tensors"].items()]
            for name, values, expected in words:
                n_words += len(expected)
                if values != expected:
                    n_different += report("%s step %d %s" % (folder, n_steps, name), values, expected)
            n_steps += 1
    net.close()
    return n_steps, n_words, n_different


def report(where: str, values: "list[int]", expected: "list[int]") -> int:
    """Name the first word of a tensor that differs; how many do."""
    different = [k for k in range(len(expected)) if k >= len(values) or values[k] != expected[k]]
    if different:
        k = different[0]
        print("%s[%d]: %s, not %d" % (where, k, values[k : k + 1], expected[k]))
    return max(len(different), 1)


total = (0, 0, 0)
for name in sorted(os.listdir("cases")):
    a, b = total, compare("cases/" + name)
    total = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
print("%d steps, %d words compared, %d words differ" % total)
