"""Recovery of Redis to the state of the journal.

In: the journal, the derived topics, and a Redis in any state. Out: a blessed Redis. Begin with `takeover.py`.
"""
