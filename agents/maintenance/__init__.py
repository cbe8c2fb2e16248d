"""Scheduled work of the worker that owns the shard.

In: time. Out: expired holds, snapshots in the journal, a trimmed journal, audits. Begin with `expiry.py`.
"""
