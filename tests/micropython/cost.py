"""What training costs in MicroPython: trains model.drnn beside it on train.drnx; prints one JSON object.

Called by tools/micropython_cost.py with heaps of several sizes; a MemoryError means that the heap was too small.
"""

import gc
import json
import time

gc.collect()
empty = gc.mem_alloc()
import deltarnn_py as deltarnn
from deltarnn_tools import samples

gc.collect()
imported = gc.mem_alloc()
net = deltarnn.Network("model.drnn")
gc.collect()
opened = gc.mem_alloc()
times_ms, macs = [], 0
for frames, label in samples("train.drnx"):
    gc.collect()
    start = time.ticks_ms()
    net.train_step(frames, label)
    times_ms.append(time.ticks_diff(time.ticks_ms(), start))
    stats = net.stats()
    macs += stats["macs_forward"] + stats["macs_backward"] + stats["macs_gradient"]
print(
    json.dumps(
        {
            "modules_bytes": imported - empty,
            "network_bytes": opened - imported,
            "steps": len(times_ms),
            "ms": sum(times_ms) // len(times_ms),
            "macs": macs // len(times_ms),
        }
    )
)
