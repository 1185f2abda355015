"""Build `deltatrain_core._core`: the C core behind cffi, declared by the headers that the firmware includes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

# setuptools wants sources relative to the project's root, where it runs.
HERE = Path(os.path.relpath(Path(__file__).resolve().parent))
DECLARING_HEADERS = (
    HERE / "include" / "drnn_types.h",
    HERE / "include" / "drnn_api.h",
    HERE / "include" / "drnn_image.h",
    HERE / "src" / "drnn_activation.h",  # these three for tests
    HERE / "src" / "drnn_softmax.h",
    HERE / "src" / "drnn_scale.h",
)
# Wrapping is never relied upon; -O3 lets the compiler vectorise the products.
COMPILE_ARGS = ["-std=c11", "-O3", "-Wall", "-Wextra"]


def declarations(header: Path) -> str:
    """A header as cffi's parser takes it: directives other than integer constants dropped."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    kept = (
        line
        for line in text.splitlines()
        if not line.lstrip().startswith("#") or re.match(r"#define \w+ \d+\s*$", line.strip())
    )
    return "\n".join(kept)


ffibuilder = FFI()
for header in DECLARING_HEADERS:
    ffibuilder.cdef(declarations(header))
ffibuilder.set_source(
    "deltatrain_core._core",
    "".join(
        f'#include "{name}.h"\n' for name in ("drnn", "drnn_image", "drnn_activation", "drnn_softmax", "drnn_scale")
    ),
    sources=[str(path) for path in sorted((HERE / "src").glob("*.c"))],
    include_dirs=[str(HERE / "include"), str(HERE / "src")],
    extra_compile_args=COMPILE_ARGS,
    depends=[str(path) for folder in ("include", "src") for path in sorted((HERE / folder).glob("*.h"))],
)
