"""Work on a schedule: the expiry timer on every worker; snapshots, trimming and audits by the owner of the shard.

In: time. Out: expired holds, snapshots in the journal, audits. Begin with `expiry.py`.
"""
