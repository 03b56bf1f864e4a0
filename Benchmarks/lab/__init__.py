"""Modules that the benchmarks share: systems to measure, load generators, and the resource usage of processes."""
