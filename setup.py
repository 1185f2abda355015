"""What setup.cfg cannot say: packages under several roots, found so that none is forgotten, and the C extension."""

from setuptools import find_packages, setup

ROOTS = ("host", "codegen", "ctypes_core", "firmware")
PACKAGES = {package: f"{root}/{package.replace('.', '/')}" for root in ROOTS for package in find_packages(root)}

setup(
    packages=list(PACKAGES),
    # Every package lies in a folder of its own name, so that editable installs and mypy agree.
    package_dir={package: folder for package, folder in PACKAGES.items() if "." not in package},
    cffi_modules=["ctypes_core/deltatrain_core/build_core.py:ffibuilder"],
)
