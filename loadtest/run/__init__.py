"""A load test: a controller, processes that send, processes that subscribe, a monitor.

In: options. Out: a history of the run, and its results. Begin with `flash_sale.py`.
"""
