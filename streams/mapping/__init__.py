"""Mappings: files that say how a platform's webhooks are verified, answered and turned into input events.

`mapping_file` is their types, `verify` their signatures, `envelope` the record of the topic `intake`.
"""
