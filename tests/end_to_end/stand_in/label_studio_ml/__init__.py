"""Stands in for the package of this name where it can't be installed (it is published on GitHub alone).

What `backend/model.py` meets under that server, at the commit that the Makefile names, and no more: which requests
reach the model, what it is made of, how its answers are wrapped. `test_label_studio_ml.py` holds both to the same test.
"""
