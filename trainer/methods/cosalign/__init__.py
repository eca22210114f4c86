"""CoSAlign: controllable safety alignment (arXiv 2410.08968)."""
