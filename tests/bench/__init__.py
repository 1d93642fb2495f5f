"""Is it still quick? Ratios within one run, by hand: `make bench`. A bench is one module with a `main()`."""
