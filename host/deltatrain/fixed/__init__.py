"""The integer reference: what NUMERICS.md defines, written as plainly as the paper, in Python integers and int64.

It is the oracle of the C core and shares no code with it. `FixedNetwork` has the methods of `CoreNetwork`.
"""

from deltatrain.fixed.network import FixedNetwork
from deltatrain.fixed.result import SampleResult

__all__ = ["FixedNetwork", "SampleResult"]
