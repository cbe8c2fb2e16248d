"""`stocktide up`: all processes of a system on one machine, supervised.

In: settings. Out: a running system and its run file. Begin with `system.py`.
"""
