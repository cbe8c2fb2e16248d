"""The results of a run as a page, as text and as a comparison.

In: results. Out: an HTML page, tables, a live view. Begin with `page.py`.
"""
