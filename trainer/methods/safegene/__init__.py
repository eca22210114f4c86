"""SafeGene: a safety adapter that is distilled once and re-expressed in every fine-tuned model of a family (arXiv
2606.06519)."""
