# What both builds are made of; DELTARNN_CORE is the folder of the C core, DELTARNN_ROOT that of the project.

DELTARNN_SOURCES := deltarnn_module.c deltarnn_network.c deltarnn_inspect.c deltarnn_files.c deltarnn_arguments.c
DRNN_SOURCES := $(notdir $(sort $(wildcard $(DELTARNN_CORE)/src/*.c)))
DRNN_FAST_OBJECTS := $(addprefix drnn_,$(addsuffix .o,accumulators forward gru kernels lstm rnn))

DELTARNN_VERSION := $(shell sed -n 's/^version = //p' $(DELTARNN_ROOT)/setup.cfg)
DELTARNN_FLAGS := -I$(DELTARNN_CORE)/include -I$(DELTARNN_CORE)/src -DDELTARNN_VERSION='"$(DELTARNN_VERSION)"'
