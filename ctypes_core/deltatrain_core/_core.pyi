"""What cffi generates; attributes are those of the C headers."""

from typing import Any

ffi: Any
lib: Any
