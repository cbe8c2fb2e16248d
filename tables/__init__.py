"""State: the ledger in Redis, its recovery and audit, and the Faust tables.

In: commands. Out: settled decisions, and Redis in the state that the journal describes. Begin with
`ledger/submission.py`.
"""
