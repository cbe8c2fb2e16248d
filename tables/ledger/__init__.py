"""The ledger: commands, records and outcomes, and the Lua steps that decide.

In: commands. Out: a decision that was read back from the journal. Begin with `submission.py`.
"""
