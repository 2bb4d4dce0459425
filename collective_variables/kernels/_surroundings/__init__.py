"""Fingerprints of what a function can see, so that a compiled kernel is used only while it holds.

A function depends on more than its arguments: on its code, the variables it closes over, its
default arguments, the globals that its code reads, and the attributes of the objects among these.
Two functions with equal fingerprints compute the same, as far as all of this can be looked into.
"""

from collective_variables.kernels._surroundings.fingerprints import fingerprint as fingerprint
from collective_variables.kernels._surroundings.visitors import (
    UnknownSurroundings as UnknownSurroundings,
)
