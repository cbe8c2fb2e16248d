"""Who watches: the newest update of every channel and SKU, handed on to whoever subscribed."""
