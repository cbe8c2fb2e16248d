"""What a run sends, as a function of a seed or of a file.

In: options, or a CSV of orders. Out: arrivals and invoices. Begin with `plan.py`.
"""
