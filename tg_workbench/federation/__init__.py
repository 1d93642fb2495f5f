"""Learning where the data is: devices that belong to an organisation, and the rounds in which they learn.

Nothing is imported here: `strategies` and `updates` are what devices import too, and those have no database.

Pitfalls: whatever a round tells about its updates beside the model is not covered by ε: losses, accuracies
and sample counts that devices report, norms, and who took part.
"""
