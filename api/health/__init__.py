"""How the parts of the system are, and how this process has worked lately.

In: what Redis, Kafka and the processes say. Out: a state, a count and a reason for each part. Begin with `observer.py`.
"""
