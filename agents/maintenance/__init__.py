"""Work on a schedule: the expiry timer on every worker; restating, trimming and audits by the owner of the shard.

In: time. Out: expired holds, restated rows in the journal, audits. Begin with `expiry.py`.
"""
