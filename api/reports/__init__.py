"""Daily reports and the health score.

In: rows of `daily` and `complaints`. Out: documents, HTML and CSV. Begin with `days.py`.
"""
