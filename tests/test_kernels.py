"""The sparse products by themselves, portable and by vectors: whole range of values, all lengths of rows."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from equality import Rng
from numpy.typing import NDArray
from test_compilers import WARNINGS, needs_vectors

import deltatrain_core

BUILDS = {"portable": ("-O1",), "AVX2": ("-O1", "-mavx2"), "AVX2 UBSan": ("-O1", "-mavx2", "-fsanitize=undefined")}
FACTOR_MAX, FACTOR_SUM = 32767, 65535
LEAST = -32768
N_CASES = 400

Columns = NDArray[np.int16]

_DECLARATIONS = """
typedef struct { uint32_t place; int32_t factor; } drnn_entry_t;
int drnn_add_columns(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end, const drnn_entry_t *entries,
                     uint32_t n, int is_even);
void drnn_sum_columns(int32_t *sums, const int16_t *base, uint32_t rows, const drnn_entry_t *entries, uint32_t n,
                      int is_even);
void drnn_dot_columns(int64_t *products, const int16_t *base, uint32_t rows, const int16_t *dm,
                      const drnn_entry_t *entries, uint32_t n, int is_even);
"""


@pytest.fixture(scope="module", params=BUILDS)
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(ffi, lib) of drnn_kernels.c, built in one of these ways."""
    flags = BUILDS[request.param]
    needs_vectors(flags)
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    source = next(path for path in deltatrain_core.sources() if path.name == "drnn_kernels.c")
    build = ["gcc", "-std=c11", *flags, "-fno-sanitize-recover=all", *WARNINGS, "-shared", "-fPIC"]
    subprocess.run([*build, f"-I{deltatrain_core.include_dir()}", str(source), "-o", str(library)], check=True)
    ffi = FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(str(library))


def random_columns(rng: Rng, n: int, rows: int) -> Columns:
    """Weights or dM [n, rows]: as in training, over the whole range, or at its ends."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.normal(0, 2000, (n, rows)).clip(LEAST, FACTOR_MAX).astype(np.int16)
    if kind == 1:
        return rng.integers(LEAST, FACTOR_MAX + 1, (n, rows)).astype(np.int16)
    return rng.choice([LEAST, FACTOR_MAX], (n, rows), p=[0.9, 0.1]).astype(np.int16)


def shape(rng: Rng) -> tuple[int, int]:
    """Columns and their rows: of any number, or such that they fill vectors."""
    lengths = [int(rng.integers(1, 300)), 16 * int(rng.integers(1, 20)), 4096]
    return int(rng.integers(1, 12)), lengths[rng.integers(3)]


def entries_of(ffi: Any, rows: int, factors: NDArray[np.int64]) -> Any:
    """The columns, one after the other, with their factors."""
    return ffi.new("drnn_entry_t[]", [(a * rows, int(factor)) for a, factor in enumerate(factors)])


def pointer(ffi: Any, kind: str, values: NDArray[Any]) -> Any:
    """An array in place."""
    return ffi.from_buffer(f"{kind}[]", values)


def test_added_columns_are_exact_or_refused(kernels: Any) -> None:
    ffi, lib = kernels
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(N_CASES):
        n, rows = shape(rng)
        columns, largest = random_columns(rng, n, rows), int(rng.choice([300, 5000, FACTOR_MAX]))
        factors = rng.integers(-largest, largest + 1, n)
        before = rng.integers(-(2**31), 2**31, rows) >> int(rng.choice([0, 1, 4]))
        first = int(rng.integers(rows + 1))
        sums, entries = before.astype(np.int32), entries_of(ffi, rows, factors)
        fits = lib.drnn_add_columns(
            pointer(ffi, "int32_t", sums), pointer(ffi, "int16_t", columns), first, rows, entries, n, 0
        )
        products = columns.astype(np.int64) * factors[:, None]
        exact = before + products.sum(axis=0)
        if fits:
            np.testing.assert_array_equal(sums[first:], exact[first:])
            np.testing.assert_array_equal(sums[:first], before[:first])
        else:
            refused += 1
            assert (np.abs(before) + np.abs(products).sum(axis=0))[first:].max() >= 2**31
    assert 0.1 * N_CASES < refused < 0.9 * N_CASES


def test_summed_columns_are_exact(kernels: Any) -> None:
    ffi, lib = kernels
    rng = np.random.default_rng(2)
    for _ in range(N_CASES):
        n, rows = shape(rng)
        columns = random_columns(rng, n, rows)
        factors = rng.integers(-FACTOR_MAX, FACTOR_MAX + 1, n)
        if np.abs(factors).sum() > FACTOR_SUM:
            factors = factors * FACTOR_SUM // np.abs(factors).sum() // 2
        sums, entries = np.empty(rows, np.int32), entries_of(ffi, rows, factors)
        lib.drnn_sum_columns(pointer(ffi, "int32_t", sums), pointer(ffi, "int16_t", columns), rows, entries, n, 0)
        np.testing.assert_array_equal(sums, (columns.astype(np.int64) * factors[:, None]).sum(axis=0))


def test_dot_products_are_exact(kernels: Any) -> None:
    ffi, lib = kernels
    rng = np.random.default_rng(3)
    for _ in range(N_CASES):
        n, rows = shape(rng)
        columns, dm = random_columns(rng, n, rows), random_columns(rng, 1, rows)[0]
        products, entries = np.empty(n, np.int64), entries_of(ffi, rows, np.zeros(n, np.int64))
        lib.drnn_dot_columns(
            pointer(ffi, "int64_t", products),
            pointer(ffi, "int16_t", columns),
            rows,
            pointer(ffi, "int16_t", dm),
            entries,
            n,
            0,
        )
        np.testing.assert_array_equal(products, columns.astype(np.int64) @ dm.astype(np.int64))
