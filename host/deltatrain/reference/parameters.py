"""Parameters by name, each with its shape: what is assigned is checked before it reaches the mathematics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError, ModelError

Array = npt.NDArray[np.float64]


def as_finite(name: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """Return `value` as a new float64 array of the given shape, or say what is wrong with it.

    Parameters
    ----------
    name : str
        How the message calls the array.
    value : array_like
        Real numbers.
    shape : tuple of int or None
        Expected length of each axis; None takes any length of at least 1.

    Raises
    ------
    InputError
        If it is not numeric, has another shape, or holds NaN or infinity.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is not an array of real numbers ({error}); pass a numpy array or nested lists"
        ) from None
    fits = array.ndim == len(shape) and all(
        got >= 1 if want is None else got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise InputError(f"{name} has shape {array.shape}, expected {wanted}; no axis may be empty")
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}{list(where)} is {array[where]}; every value must be finite")
    return array


class Parameters(dict[str, Array]):
    """A dictionary with a fixed set of names; assigning copies to float64 and checks shape and finiteness.

    Writing into an array in place (`params["weight_ih"][0, 0] = 1`) changes the layer as well.

    Raises
    ------
    ModelError
        For an unknown name, an attempt to remove one, a wrong shape, or a value that is not finite.
    """

    def __init__(self, values: Mapping[str, npt.ArrayLike]) -> None:
        super().__init__()
        for name, value in values.items():
            super().__setitem__(name, np.array(value, dtype=np.float64))

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        if name not in self:
            raise ModelError(f"there is no parameter {name!r}; the parameters are {', '.join(self)}")
        try:
            array = as_finite(name, value, self[name].shape)
        except InputError as error:
            raise ModelError(str(error)) from None
        super().__setitem__(name, array)

    def assign(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Assign every parameter at once; `values` must hold exactly the names of this dictionary."""
        if set(values) != set(self):
            raise ModelError(f"expected the parameters {', '.join(self)}; got {', '.join(values) or 'none'}")
        self.update(values)

    def update(self, values: Any = (), /, **named: npt.ArrayLike) -> None:
        """Assign several parameters, each checked (`dict.update` would go past the checks)."""
        pairs: Iterable[tuple[str, npt.ArrayLike]] = values.items() if isinstance(values, Mapping) else values
        for name, value in pairs:
            self[name] = value
        for name, value in named.items():
            self[name] = value

    def __ior__(self, values: Any) -> Parameters:  # type: ignore[override,misc]
        self.update(values)
        return self

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ModelError(f"the parameters {', '.join(self)} can be assigned, not added or removed")

    __delitem__ = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> tuple[type[Parameters], tuple[dict[str, Array]]]:
        return Parameters, (dict(self),)
