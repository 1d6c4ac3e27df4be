"""The public API of runs and templates: gRPC servicers, and what they need of the scheduler."""
