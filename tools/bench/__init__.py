"""Speed and size of the engine, in the workloads and the format the peers are measured with."""
