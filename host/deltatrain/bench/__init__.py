"""What a training step costs: on a board in instructions or cycles, on this computer in time; against others."""

from deltatrain.bench.board import PHASES, bench, bench_board
from deltatrain.bench.cases import SPARSITIES, Case, Shape, bench_frames, bench_model, find_case
from deltatrain.bench.desk import Desk
from deltatrain.bench.host import bench_host
from deltatrain.bench.rows import BOARD_ENGINES, FIXED, FLOAT, HOST_ENGINES, TORCH, BoardRow, HostRow, Row

__all__ = [
    "BOARD_ENGINES",
    "FIXED",
    "FLOAT",
    "HOST_ENGINES",
    "PHASES",
    "SPARSITIES",
    "TORCH",
    "BoardRow",
    "Case",
    "Desk",
    "HostRow",
    "Row",
    "Shape",
    "bench",
    "bench_board",
    "bench_frames",
    "bench_host",
    "bench_model",
    "find_case",
]
