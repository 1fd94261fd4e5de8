"""The benchmark suite: fastrnn beside the machine's limits and other libraries (``fastrnn bench``).

Nothing here is imported by ``import fastrnn``.
"""
