"""The command line, the settings and the composition roots.

In: arguments and the environment. Out: an exit status. Begin with `command_line.py`.
"""
