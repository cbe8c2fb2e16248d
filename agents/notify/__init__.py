"""Sends alerts: rows of `alerts` → messages of robots (DingTalk, WeCom, Feishu, Slack), calls of webhooks.

`config` reads the file, `routing` says where an alert goes and when it may, `groups` keep what a receiver has to get,
`robots` make its messages, and `sender` sends them, each receiver by itself.
"""
