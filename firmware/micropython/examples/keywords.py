"""Let a keyword model learn its owner's voice on the board, from recordings that the host wrote as files.

Prints the error before, trains once on each recording of train.drnx, prints the error after, and keeps the weights.
Copy beside this file: the module `deltarnn` or `deltarnn_py`, deltarnn_tools.py, and what the host wrote, model.drnn,
train.drnx and test.drnx (docs/MICROPYTHON.md).
"""

from deltarnn_tools import samples, scale

try:
    import deltarnn
except ImportError:
    import deltarnn_py as deltarnn


def error(net, name):
    """Recordings of a file that are taken for another word, and how many there are."""
    n_wrong = n_all = 0
    for frames, label in samples(name):
        n_wrong += net.forward(frames) != label
        n_all += 1
    return n_wrong, n_all


def learn(net, name):
    """One training step on each recording of a file."""
    net.configure(learning_rate=scale(16, 100), seed=1)
    for frames, label in samples(name):
        loss = net.train_step(frames, label)
        print("%s: loss %d.%02d" % (net.names[label], loss >> 16, (loss & 0xFFFF) * 100 >> 16))


def main():
    net = deltarnn.Network("model.drnn", bytearray(deltarnn.arena_size("model.drnn")))
    print("wrong before: %d of %d" % error(net, "test.drnx"))
    learn(net, "train.drnx")
    print("wrong after: %d of %d" % error(net, "test.drnx"))
    net.save("weights.drns")
    net.close()


if __name__ == "__main__":
    main()
