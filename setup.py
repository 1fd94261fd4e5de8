# For what still calls `python setup.py bdist_wheel` (with the tools of [build-system] installed):
# the same build as pip's. All about the project is said in pyproject.toml and CMakeLists.txt.
from scikit_build_core.setuptools.wrapper import setup

setup(cmake_source_dir=".")
