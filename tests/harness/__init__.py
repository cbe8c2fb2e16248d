"""Starts servers and processes of Stocktide for tests.

In: folders, addresses, settings. Out: running servers and processes, with their logs, stopped at the test's end.
Begin with `process` (one process), then `system` (a whole `stocktide up`) and `workers` (a group of workers).
"""
