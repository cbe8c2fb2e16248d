"""Sends webhooks: rows of `channel-stock` and `reservations` → signed calls of the endpoints.

`service` owns partitions by a consumer group, `session` reads them, `queues` keep what an endpoint has to get, and
`endpoint` sends it.
"""
