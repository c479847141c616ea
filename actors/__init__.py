"""What runs on a worker: plain classes, with Ray and Serve shells thin on top."""
