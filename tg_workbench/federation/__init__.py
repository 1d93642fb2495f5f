"""Learning where the data is: rounds in which devices train and only their updates travel."""
