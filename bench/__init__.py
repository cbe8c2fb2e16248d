"""`make bench`: the budgets of the design as ratios, measured in one run on one machine.

In: embedded servers. Out: a table and `build/bench.json`. Begin with `__main__.py`.
"""
