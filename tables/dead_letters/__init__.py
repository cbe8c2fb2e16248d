"""Dead letters: which are open, and their events sent again.

In: the topic `dead-letters`. Out: dead letters with their state, events on their topics, marks. Begin with `reader.py`.
"""
