"""`stocktide doctor`: what is missing or unsafe.

In: the settings. Out: findings. Begin with `command.py`; each other module reads one server or process and judges what
it read with functions that need no server.
"""
