"""What the service answers to requests that nobody should send, judged by its own description."""
