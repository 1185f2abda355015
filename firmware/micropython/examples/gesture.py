"""Learn a person's movements on the board, from an accelerometer and a gyroscope.

Every 2.56 seconds the board says what movement it took the last window for. Press Enter where it is right, or type the
number of the right one: the board trains on that very window, whose readings it has never stored, and keeps what it has
learned in flash. Copy beside this file: the module `deltarnn` or `deltarnn_py`, deltarnn_tools.py, mpu6050.py, and what
the host wrote, model.drnn and input.json (docs/MICROPYTHON.md).
"""

from deltarnn_tools import Inputs

try:
    import deltarnn
except ImportError:
    import deltarnn_py as deltarnn

MODEL, WEIGHTS = "model.drnn", "weights.drns"


def observe(net, imu, inputs):
    """Take in a window, reading by reading; returns the movement's number. The sample stays under way."""
    net.begin()
    for _ in range(net.max_steps):
        net.push(inputs.frame(imu.read()))
    return net.infer()


def main(imu, ask, n_windows):
    """Observe, ask, learn. `ask(names, guess)` returns the right number, or None: learn nothing."""
    net, inputs = deltarnn.Network(MODEL, bytearray(deltarnn.arena_size(MODEL))), Inputs("input.json")
    try:
        net.load(WEIGHTS)
    except OSError:
        pass  # nothing was learned yet
    for _ in range(n_windows):
        label = ask(net.names, observe(net, imu, inputs))
        if label is not None:
            net.train(label)
            net.save(WEIGHTS)
    net.close()


def ask_person(names, guess):
    """At the board's console."""
    answer = input("%s? Enter, or the right number of %s: " % (names[guess], list(enumerate(names))))
    return int(answer) if answer else guess


def start():
    """On a board with an MPU-6050."""
    from machine import I2C, Pin
    from mpu6050 import MPU6050

    i2c = I2C(0, scl=Pin(5), sda=Pin(4))  # GP5 and GP4 of a Pico; on an ESP32 say 22 and 21
    main(MPU6050(i2c), ask_person, 1000)


if __name__ == "__main__":
    start()
