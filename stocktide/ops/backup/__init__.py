"""`stocktide backup` and `restore`: all topics to a folder and back.

In: a Kafka, or a folder. Out: a folder, or topics. Begin with `backup.py`.
"""
