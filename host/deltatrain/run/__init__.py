"""Training for long: a run has a folder, a log of every step, and goes on wherever it was stopped.

`RunFolder` is what is kept, `Journal` what the log tells, `find_position` where a device stands in the run,
`LongRun` the training itself.
"""

from deltatrain.run.folder import Plan, RunFolder
from deltatrain.run.journal import Journal
from deltatrain.run.log import Log, read_events
from deltatrain.run.loop import LongRun, Pace
from deltatrain.run.position import Position, find_position
from deltatrain.run.stop import Stop, Stopped
from deltatrain.run.stream import Stream

__all__ = [
    "Journal",
    "Log",
    "LongRun",
    "Pace",
    "Plan",
    "Position",
    "RunFolder",
    "Stop",
    "Stopped",
    "Stream",
    "find_position",
    "read_events",
]
