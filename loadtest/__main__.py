"""`python -m loadtest`: the benchmarks."""

from loadtest.bench_command import app

app()
