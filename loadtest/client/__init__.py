"""The contract for a load test: the public client (`stocktide.client`), and what is beside it: Kafka and raw frames.

In: the addresses of a system. Out: typed responses, updates and rows. Begin with `http.py` (`StocktideClient`), then
`kafka.py` (`EventProducer`), `feed.py` (`FeedSubscriber`) and `topics.py` (`TopicReader`).
"""
