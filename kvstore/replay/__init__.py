"""Event-driven replay of request traces through the store's own shelves, policies and window.

A simulation: the order of requests, the tree, the eviction and the prefetch decisions are the
store's; times come from a prefill profile and a bandwidth.
"""
