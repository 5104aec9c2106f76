"""Several worker processes under one supervisor, and the allocator that says how many, and what each gets.

    supervisor ── a socket to each ── worker 1 … N: what `postorder run` does in one process
        └ controller: looks (queues, workers' metrics, CPU) → pipeline/allocation decides → workers, prefetch,
        batches

Nothing here uses a database.
"""
