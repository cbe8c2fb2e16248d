"""The Python client of Stocktide: the contract over HTTP, Kafka and Server-Sent Events.

In: the addresses of a system. Out: typed responses, updates and rows. Begin with `http.py` (`StocktideClient`), then
`kafka.py` (`EventProducer`), `feed.py` (`FeedSubscriber`) and `topics.py` (`TopicReader`).
"""
