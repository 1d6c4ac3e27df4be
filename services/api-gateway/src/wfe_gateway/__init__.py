"""Envoy: configuration, OpenAPI document, start."""
