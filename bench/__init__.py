"""`make bench`: the budgets of the design as ratios, measured in one run on one machine."""
