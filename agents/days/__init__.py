"""`alerts` and `dead-letters` → totals by day in the topic `daily`.

In: both topics. Out: rows, by the worker that owns the journal.
"""
