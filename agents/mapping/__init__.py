"""The agent of the topic `intake`: webhooks of platforms → input events.

`evaluate` maps one message, `fetch` gets what a platform did not send, `agent` writes the events.
"""
