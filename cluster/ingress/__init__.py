"""HTTP in front of the deployments: one module per family of endpoints, `app.create_app` for all.

Nothing is imported here: `cluster.config` needs `cluster.ingress.config` alone.
"""
