"""Benchmarks for asv (asv.conf.json), which compares commits: docs/comparing-commits.md."""
