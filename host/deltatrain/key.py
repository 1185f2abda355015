"""The key of a locked device: 32 secret bytes, kept in a file, never sent. PROTOCOL.md, "CHALLENGE, UNLOCK".

What lies in a device is not the key but one derived from it and from the model's hash, so that whoever reads one
device's flash learns nothing about devices with other models.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from deltatrain.errors import InputError

KEY_VARIABLE = "DELTATRAIN_KEY"
KEY_BYTES = 32
_DERIVED = b"deltatrain lock"
_HEX = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_LIKE_A_KEY = re.compile(rf"[0-9a-fA-F]{{{KEY_BYTES},}}")  # with digits too few or too many: not to be shown either


@dataclass(frozen=True)
class Key:
    """A key; its bytes are kept out of any text that describes it.

    Attributes
    ----------
    secret : bytes
    path : Path or None
        The file that it was read from.
    """

    secret: bytes = field(repr=False)
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise InputError(f"a key has {KEY_BYTES} bytes, this one has {len(self.secret)}")

    @staticmethod
    def new() -> Key:
        """A random key."""
        return Key(secrets.token_bytes(KEY_BYTES))

    @staticmethod
    def given(text: str) -> Key:
        """A key as people give it: the name of its file, or its 64 hexadecimal digits.

        InputError, which never holds what was read, when it is neither.
        """
        if _HEX.fullmatch(text.strip()):
            return Key(bytes.fromhex(text.strip()))
        if _LIKE_A_KEY.fullmatch(text.strip()):
            raise InputError(f"the key given has {len(text.strip())} hexadecimal digits instead of {2 * KEY_BYTES}")
        try:
            content = Path(text).read_text(encoding="ascii").strip()
        except OSError as error:
            raise InputError(
                f"cannot read the key from {text} ({error.strerror}); "
                "name a file that `deltatrain export --new-key` made"
            ) from error
        except ValueError:
            content = ""  # bytes that no key file has
        if not _HEX.fullmatch(content):
            raise InputError(
                f"{text} is no key file, which holds {2 * KEY_BYTES} hexadecimal digits and nothing else; "
                "name one that `deltatrain export --new-key` made"
            )
        return Key(bytes.fromhex(content), Path(text))

    def save(self, path: Path) -> None:
        """Write a new file that only its owner may read; InputError when there is one already, or none can be."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InputError(f"{path} exists; a key is never overwritten: give it by --key, or name another") from error
        except OSError as error:
            raise InputError(f"cannot write the key to {path} ({error.strerror}); name another file") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self.secret.hex() + "\n")

    def of_device(self, model_hash: bytes) -> bytes:
        """What a device with the model of this SHA-256 has in its flash, 32 bytes."""
        return hmac.digest(self.secret, _DERIVED + model_hash, hashlib.sha256)

    def proof(self, model_hash: bytes, challenge: bytes, nonce: int) -> bytes:
        """The answer to a device's challenge in the session of this nonce, 32 bytes."""
        return hmac.digest(self.of_device(model_hash), challenge + nonce.to_bytes(4, "little"), hashlib.sha256)


@dataclass(frozen=True)
class Lock:
    """How a firmware is locked: by which key, and whether recognising samples takes it too."""

    key: Key
    inference: bool = False
