"""The command line, the settings and the composition roots.

In: arguments and the environment. Out: an exit status. Begin with `__main__.py`.
"""
