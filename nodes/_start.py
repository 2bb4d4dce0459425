import os
import sys

sys.path.pop(0)
sys.path.append(os.getcwd())
from nodes._stage import run_stage

run_stage(sys.argv[1], sys.argv[3])
