"""The field's defining figures, drawn from the simulators and estimators of the package and checked against published numbers.

One module a paper, each with a `PAPER`; `python -m paper_figures` draws and checks them.
"""
