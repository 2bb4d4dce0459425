"""Fingerprints of what a function can see, which tell whether a compiled kernel is still valid.

A function depends on more than its arguments. It depends on its code, the variables it closes over,
its default arguments, the globals that its code reads, and the attributes of objects among them.
Two functions with equal fingerprints compute the same, provided that all of these can be inspected.
"""

from collective_variables.kernels._surroundings.fingerprints import fingerprint as fingerprint
from collective_variables.kernels._surroundings.visitors import (
    UnknownSurroundings as UnknownSurroundings,
)
