"""All changes of one SKU, as the journal contains them.

In: a SKU. Out: its changes with their causes, forward or backward. Begin with `sku_history.py`.
"""
