# MicroPython's QEMU port on a Cortex-M4F, which it has no board for: its AN385 with another core and an FPU.
#
#     make -C $MPY_DIR/ports/qemu BOARD=MPS2_AN386 BOARD_DIR=$PWD/firmware/micropython/boards/MPS2_AN386
QEMU_ARCH = arm
QEMU_MACHINE = mps2-an386

CFLAGS += -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16
CFLAGS += -DQEMU_SOC_MPS2
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M4"'
SUPPORTS_HARDWARE_FP_SINGLE = 1
MICROPY_FLOAT_IMPL = float

MICROPY_HW_ROMFS_PART0_START = 0x21000000
MICROPY_HW_ROMFS_PART0_SIZE = 0x00400000

LDSCRIPT = mcu/arm/mps2.ld
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o
MPY_CROSS_FLAGS += -march=armv7emsp
