"""The embedded sandbox: a small invented language with an exact judge.

Objects, ingredients and recipes are made-up words, so nothing here can harm anybody, yet every question a
safety method asks has an exact answer: which risks a response carries, whether it helps, what was allowed.
"""
