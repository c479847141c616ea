"""The whole: configuration, Serve application, ingress and request pipeline."""
