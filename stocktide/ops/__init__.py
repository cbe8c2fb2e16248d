"""The commands of operation, one module or folder for each.

In: a system and options. Out: a report on the terminal, and an exit status. Begin with `audit.py`.
"""
