"""Work on a schedule, by the worker that owns the shard.

In: time. Out: expired holds, snapshots in the journal, audits, a warning about eviction. Begin with `expiry.py`.
"""
