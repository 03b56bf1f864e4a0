"""What the benchmarks share: peers to measure against, load, and accounts of what each process used."""
