"""The results of a run as a page, on a console, and compared with those of another run.

In: results. Out: an HTML page, tables, a live view. Begin with `page.py`.
"""
