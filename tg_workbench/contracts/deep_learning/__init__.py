"""Deep Learning Platform (S3): upload, train, predict."""
