"""Learning where the data is: devices that belong to an organisation, and the rounds in which they learn.

Nothing is imported here: `strategies` and `updates` are what devices import too, and those have no database.

Pitfalls: a certificate proves nothing by itself: whether it was revoked is asked of the database, at every
request. A device's own private keys are never stored here, also where the server has made them.
"""
