"""Mappings: files that say how a platform's webhooks are verified, answered and turned into input events.

`mapping_file` is their types, `mapping_reader` reads them, `event_fields` checks their events, `verify` the
signatures, `envelope` is the record of the topic `intake`.
"""
