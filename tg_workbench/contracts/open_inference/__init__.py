"""Open Inference Protocol v2: how other programs ask a service's model, as KServe and Triton have it."""
