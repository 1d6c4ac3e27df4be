"""Every await of every use case as the last one: it fails there, or its process dies there."""
