"""One use case per file: check the request, call the store, map the answer."""
