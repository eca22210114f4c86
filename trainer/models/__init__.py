"""Loading and saving models and tokenizers."""
