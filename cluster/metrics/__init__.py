"""Prometheus metrics of the whole cluster: what the ingress counts, and what the others report.

`request` counts at the ingress; `store` and `replicas` turn what nodes and replicas report about
themselves into metrics. Nothing is summed here: each series is one process's or one node's, so that
one that restarts begins at 0, as `rate()` expects, and one that does not answer is absent.
"""
