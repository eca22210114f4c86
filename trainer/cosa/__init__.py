"""The vocabulary of controllable safety (CoSA, arXiv 2410.08968): categories, safety configs, score, pairing."""
