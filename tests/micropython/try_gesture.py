"""The example `gesture` under MicroPython, a recording in the place of the sensor; tests/test_micropython_examples.py.

Prints what each window was taken for, then the file of weights in hexadecimal.
"""

import gesture
from replay_imu import ReplayImu

imu = ReplayImu("train.drnx", 6)
gesture.main(imu, imu.ask, len(imu.labels))
print(",".join(imu.guesses))
with open(gesture.WEIGHTS, "rb") as file:
    print(file.read().hex())
