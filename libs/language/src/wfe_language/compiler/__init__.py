"""From a document to a plan, with every fault on the way."""
