"""Q-formats and bounds that no model may change: those of drnn_types.h, in short. NUMERICS.md, "Formats"."""

H_BITS = 14  # fraction bits of h and of the gates
BIAS_BITS = 24  # of biases, int32
OUTPUT_BITS = 16  # of outputs, targets of a regression, and loss
GUARD_BITS = 6  # low-order bits that carried gradients keep below those of the loss gradient
V_MAX = 16383  # of |x| and |h|: one guard bit, so that a difference fits int16
DELTA_SUM = 63487  # of a column's |Delta| over a sample; what exceeds it is rounded for the gradient of W
TARGET_MAX = 1 << 30  # of |target| of a regression
INT16_MAX = 32767  # ranges are symmetric
INT32_MAX = 2147483647
ONE_Q14 = 1 << 14
ONE_Q28 = 1 << 28
