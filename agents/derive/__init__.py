"""The journal agent: it derives the rows of every topic but `channel-stock`.

In: valid batches of the journal. Out: rows of `reservations`, `adjustments`, `stock`, `policies`, `alerts`,
`dead-letters`. Begin with `agent.py`.
"""
