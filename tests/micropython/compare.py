"""Train as recorded, and compare every word: run under MicroPython by tests/test_micropython.py, under CPython too.

Each folder of `cases` holds a model and `steps.jsonl`, first the settings, then a training step a line: its sample and, as the
C core computed them, results and tensors. Prints `N steps, M words compared, K words differ` and names the first that does.
"""

import json
import os
from array import array

import deltarnn_py as deltarnn


def compare(folder):
    """Steps, words, and how many of these differ."""
    net = deltarnn.Network(folder + "/model.drnn", bytearray(deltarnn.arena_size(folder + "/model.drnn")))
    n_steps = n_words = n_different = 0
    with open(folder + "/steps.jsonl") as steps:
        net.configure(**{name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(next(steps)).items()})
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
                    n_different += report(folder, n_steps, name, values, expected)
            n_steps += 1
    net.close()
    return n_steps, n_words, n_different


def report(folder, step, name, values, expected):
    """Name the first of a tensor's words that differs; how many do."""
    different = [k for k in range(len(expected)) if k >= len(values) or values[k] != expected[k]]
    if different:
        k = different[0]
        print("%s step %d %s[%d]: %s, not %d" % (folder, step, name, k, values[k : k + 1], expected[k]))
    return max(len(different), 1)


total = [0, 0, 0]
for name in sorted(os.listdir("cases")):
    total = [a + b for a, b in zip(total, compare("cases/" + name))]
print("%d steps, %d words compared, %d words differ" % tuple(total))
