from setuptools import setup

setup(cffi_modules=["ctypes_core/deltatrain_core/build_core.py:ffibuilder"])
