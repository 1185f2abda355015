"""The six axes of an MPU-6050 (or MPU-6500, MPU-9250) at I2C, 25 readings a second."""

import struct
import time

_SETTINGS = (  # register, value
    (0x6B, 0x01),  # awake, clocked by the gyroscope
    (0x1A, 0x05),  # low-pass at 10 Hz, below half of what is read
    (0x1B, 0x08),  # gyroscope +-500 degrees/s, 65.5 a degree/s
    (0x1C, 0x08),  # accelerometer +-4 g, 8192 a g
)
_READINGS = 0x3B  # acceleration, temperature, rotation: big-endian int16
_PERIOD_MS = 40


class MPU6050:
    """`read` gives acceleration in mm/s^2 and rotation in mrad/s, x, y, z each, at the sensor's pace."""

    def __init__(self, i2c, address=0x68):
        self._i2c, self._address = i2c, address
        for register, value in _SETTINGS:
            i2c.writeto_mem(address, register, bytes([value]))
        self._next_ms = time.ticks_ms()

    def read(self):
        wait_ms = time.ticks_diff(self._next_ms, time.ticks_ms())
        if wait_ms < 0:  # the board was busy: begin anew from now
            self._next_ms, wait_ms = time.ticks_ms(), 0
        time.sleep_ms(wait_ms)
        self._next_ms = time.ticks_add(self._next_ms, _PERIOD_MS)
        ax, ay, az, _, gx, gy, gz = struct.unpack(">7h", self._i2c.readfrom_mem(self._address, _READINGS, 14))
        acceleration = [a * 9807 // 8192 for a in (ax, ay, az)]
        return acceleration + [g * 2665 // 10000 for g in (gx, gy, gz)]
