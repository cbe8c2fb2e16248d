"""The stock agent: publishes what each channel may sell.

In: rows of `stock`. Out: rows of `channel-stock`, at most one per channel, SKU and interval. Begin with `agent.py`.
"""
