"""The tests. Begin with `harness`, which starts servers and processes."""
