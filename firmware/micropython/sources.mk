# What both builds are made of; CORE is the folder of the C core, ROOT that of the project.

DELTARNN_SOURCES := deltarnn_module.c deltarnn_network.c deltarnn_inspect.c deltarnn_files.c deltarnn_arguments.c
DRNN_SOURCES := $(notdir $(sort $(wildcard $(CORE)/src/*.c)))
DRNN_FAST_OBJECTS := $(addprefix drnn_,$(addsuffix .o,accumulators forward gru kernels lstm rnn))

DELTARNN_VERSION := $(shell sed -n 's/^version = //p' $(ROOT)/setup.cfg)
DELTARNN_FLAGS := -I$(CORE)/include -I$(CORE)/src -DDELTARNN_VERSION='"$(DELTARNN_VERSION)"'
