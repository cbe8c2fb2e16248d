"""`stocktide dead-letters`: list, show, retry, drop.

In: the topic `dead-letters`. Out: tables, events sent again, marks. Begin with `command.py`.
"""
