"""What one frame leaves behind in a layer for the way back."""

from array import array


class Step:
    """Arrays of int16: its events, what the cell keeps, and the states before and after it."""

    def __init__(self, h_before: "array[int]", c_before: "array[int]") -> None:
        self.active = array("h")  # numbers j of the entries of v = [x ; h] that changed, ascending
        self.delta = array("h")  # by how much each did
        self.gates = array("h")  # [A H], each gate in its accumulator's place; going back, dM takes their place
        self.h_before, self.c_before = h_before, c_before
        self.h, self.c = h_before, c_before
