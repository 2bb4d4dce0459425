"""Compare subsets in an experiment: select, measure, train and join, each in a separate module.

A stage imports the module of its part, so that an edit of another part does not make it stale.
"""
