"""The contract: input events, the documents of answers and topics, and times.

In: raw bytes. Out: a typed event, or `Malformed` with a code and a path; the JSON of a document. Begin with
`events.py` and `documents.py`.
"""
