"""What setup.cfg cannot say: the packages, found so that none is forgotten, and the C extension."""

from setuptools import find_packages, setup

ROOTS = ("host", "codegen", "ctypes_core", "firmware")
PACKAGES = {name: f"{root}/{name.replace('.', '/')}" for root in ROOTS for name in find_packages(root)}

setup(
    packages=list(PACKAGES),
    # Every package lies in a folder of its own name, so that editable installs and mypy agree.
    package_dir={name: folder for name, folder in PACKAGES.items() if "." not in name},
    cffi_modules=["ctypes_core/deltatrain_core/build_core.py:ffibuilder"],
)
