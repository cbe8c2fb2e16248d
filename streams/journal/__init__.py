"""The journal: its record, the reader that tells valid records from void ones, and the log it is kept in.

In: payloads of the ledger. Out: valid batches, in order. Begin with `record.py`.
"""
