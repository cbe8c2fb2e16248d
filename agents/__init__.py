"""Stream processors: event intake, relay, derivation of rows, channel stock, maintenance.

In: topics. Out: decisions in the journal and rows in the derived topics. Begin with `intake.py`.
"""
