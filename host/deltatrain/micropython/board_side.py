# mypy: ignore-errors
# ruff: noqa
"""What runs on the board: sent over the raw REPL when a session begins, and called from there.

MicroPython's own modules and the names that sessions share are none that mypy or ruff know. Its names live beside the user's own, so they begin with dt_; `dt_net` is the network, which outlives the session. Bytes
go over the line as base64.
"""

import gc
import io
import os
import sys
from binascii import a2b_base64, b2a_base64

DT_MODEL = "deltatrain.drnn"
DT_FOLDER = "/deltatrain"
DT_ASK = "\x06"  # what asks the host for more

if "dt_net" not in globals():
    dt_net = None  # the network
    dt_model = None  # bytes of its model, where there is no file system for it


def dt_send(data):
    """A line with bytes."""
    view = memoryview(bytes(data))
    for at in range(0, len(view), 768):
        print(str(b2a_base64(view[at : at + 768]), "ascii")[:-1], end="")
    print()


# Installing. The host sends a file's bytes part by part, each when it is asked for, so that no copy of the whole is needed.


def dt_next():
    """The next part of the file; empty behind the last."""
    sys.stdout.write(DT_ASK)
    return a2b_base64(sys.stdin.readline())


class DtFile(io.IOBase):
    """The file, as an import reads it."""

    def __init__(self):
        self.part = b""

    def readinto(self, buffer):
        n = 0
        while n < len(buffer):
            self.part = self.part or dt_next()
            if not self.part:
                break
            taken = self.part[: len(buffer) - n]
            buffer[n : n + len(taken)] = taken
            n += len(taken)
            self.part = self.part[len(taken) :]
        return n

    def ioctl(self, request, argument):
        return 0 if request == 4 else -1  # 4: close


class DtFiles:
    """Stands for a file system on boards that have none: the module is imported from it while the host sends it."""

    def mount(self, readonly, make):
        pass

    def umount(self):
        pass

    def chdir(self, path):
        pass

    def stat(self, path):
        if path != "/deltarnn.mpy":
            raise OSError(2)
        return (0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def open(self, path, mode):
        return DtFile()


def dt_folder():
    """Where modules go, a folder in sys.path; nothing where the board has no file system that can be written."""
    try:
        with open("deltatrain.tmp", "wb") as file:
            file.write(b"\0")
        os.remove("deltatrain.tmp")
    except (OSError, AttributeError):
        return ""
    for path in sys.path:
        if path.endswith("lib"):
            try:
                os.mkdir(path)
            except OSError:
                pass  # it is there
            return path
    return "."


def dt_forget():
    """Let the network and the module go, so that others can come."""
    global dt_net, dt_model, dt_buffer
    if dt_net is not None:
        dt_net.close()
    dt_net = dt_model = dt_buffer = None
    sys.modules.pop("deltarnn", None)
    gc.collect()


def dt_put(path):
    """The host's file becomes one here."""
    with open(path, "wb") as file:
        while True:
            part = dt_next()
            if not part:
                break
            file.write(part)


def dt_import():
    """Import the module from the host."""
    import vfs

    vfs.mount(DtFiles(), DT_FOLDER)
    sys.path.insert(0, DT_FOLDER)
    try:
        import deltarnn
    finally:
        sys.path.pop(0)
        vfs.umount(DT_FOLDER)


def dt_fill(n_bytes):
    """The host's file becomes `dt_buffer`, in one piece."""
    global dt_buffer
    dt_buffer = bytearray(n_bytes)
    DtFile().readinto(dt_buffer)


def dt_drop_buffer():
    global dt_buffer
    dt_buffer = None
    gc.collect()


def dt_keep_model():
    """The buffer is the model, of a board without files."""
    global dt_model
    dt_model = dt_buffer
    dt_drop_buffer()


def dt_start():
    """The network, where there is none yet: from the model that was installed."""
    global dt_net
    if dt_net is None:
        import deltarnn

        gc.collect()
        source = DT_MODEL if dt_model is None else dt_model
        dt_net = deltarnn.Network(source, bytearray(deltarnn.arena_size(source)))


def dt_head(n_bytes):
    """The first bytes of the model's file."""
    if dt_model is not None:
        dt_send(dt_model[:n_bytes])
    else:
        with open(DT_MODEL, "rb") as file:
            dt_send(file.read(n_bytes))


class DtStart:
    """Keeps the first bytes of a file that is written to it, and forgets the rest."""

    def __init__(self, n_bytes):
        self.data, self.n_bytes = b"", n_bytes

    def write(self, data):
        if len(self.data) < self.n_bytes:
            self.data += bytes(data)


def dt_state(n_bytes):
    """The first bytes of the file that `save` writes, among them the settings."""
    start = DtStart(n_bytes)
    dt_net.save(start)
    dt_send(start.data[:n_bytes])


# Samples


def dt_push(text, want_hidden, targets):
    """Frames, one after another, each with its target."""
    view = memoryview(a2b_base64(text))
    n_bytes = 2 * dt_net.n_in
    for k in range(len(view) // n_bytes):
        dt_net.push(view[k * n_bytes : (k + 1) * n_bytes], targets[k] if targets else None)
        if want_hidden:
            dt_send(dt_net.hidden())


def dt_result():
    print(dt_net.stats())
