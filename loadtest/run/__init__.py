"""A load test: a controller, processes that generate load, a process of subscribers, a monitor.

In: options. Out: the history of the run, and its results. Begin with `flash_sale.py`.
"""
