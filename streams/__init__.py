"""What travels: events, their codec, the topics, the Faust app and its batch transport, publishing."""
