"""Disentangled safety adapters (arXiv 2506.00166): a frozen base, and small networks that read its hidden states."""
