"""What a person sees and presses, in JupyterLab and in Voila, with everything real behind it."""
