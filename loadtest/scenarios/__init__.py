"""Load tests of the whole pipeline: scenarios as data, one runner, a report that is checked and compared."""
