"""The journal agent: derives the rows of all topics except `channel-stock`.

In: valid batches of the journal. Out: rows of `reservations`, `adjustments`, `stock`, `policies`, `alerts`,
`audit`, `dead-letters`. Begin with `agent.py`.
"""
