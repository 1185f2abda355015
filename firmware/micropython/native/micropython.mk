# As a user C module, built into the firmware, of ports that build with make:
#
#     make -C $MPY_DIR/ports/unix USER_C_MODULES=$PWD/firmware/micropython
DELTARNN_ROOT := $(abspath $(USERMOD_DIR)/../../..)
DELTARNN_CORE := $(DELTARNN_ROOT)/ctypes_core/deltatrain_core
include $(USERMOD_DIR)/../sources.mk

SRC_USERMOD_C += $(addprefix $(USERMOD_DIR)/,$(DELTARNN_SOURCES))
SRC_USERMOD_LIB_C += $(addprefix $(DELTARNN_CORE)/src/,$(DRNN_SOURCES))
CFLAGS_USERMOD += $(DELTARNN_FLAGS) -I$(USERMOD_DIR)
