"""What fixed point costs: the same training in float64 and in integers, from scratch and in personalisation."""

from deltatrain.parity.runs import Fixed, PersonalConfig, ScratchConfig
from deltatrain.parity.study import (
    Difference,
    ParityConfig,
    difference,
    differences,
    rates_by_epoch,
    study_parity,
    write_csv,
)

__all__ = [
    "Difference",
    "Fixed",
    "ParityConfig",
    "PersonalConfig",
    "ScratchConfig",
    "difference",
    "differences",
    "rates_by_epoch",
    "study_parity",
    "write_csv",
]
