"""Load generation and verification. It uses the contract only.

In: a running system. Out: load, a history of what was observed, and a verdict. Begin with `run/flash_sale.py`.
"""
