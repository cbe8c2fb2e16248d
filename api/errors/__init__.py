"""Every error code, its statuses, and its page.

In: nothing. Out: the tables, and text for people. Begin with `codes.py`.
"""
