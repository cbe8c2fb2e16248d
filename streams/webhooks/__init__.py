"""Webhooks: definitions, addresses that may be called, and signed calls. Used by the API, which defines and tests them,
and by the worker, which sends.
"""
