"""Compare subsets in an experiment: select, measure, train and join, each in its own module.

A stage imports the module of its part, so that an edit of another part does not concern it.
"""
