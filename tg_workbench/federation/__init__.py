"""Learning where the data is: devices that belong to an organisation, and the rounds in which they learn.

Nothing is imported here: `strategies` and `updates` are what devices import too, and those have no database.
"""
