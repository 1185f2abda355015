"""Train delta recurrent networks on a microcontroller, and prove that it computes what the host computes."""

__version__ = "0.1.0"
