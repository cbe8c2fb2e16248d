"""Who judges: from what callers were told and subscribers saw, and from public endpoints and topics only.

`history` is the record of a run, kept outside of the system; `judge` reads it and decides the promises;
`replayed` folds two topics into what every SKU should be, for a replay whose answers are all topics.
"""
