"""The mutation check: the verifier is broken on purpose, one place at a time, and some test has to notice.

``python -m mutation`` runs it, or ``make mutation``. What no test notices is a survivor: either a test is missing, or the change
breaks nothing that a test could see, which `explained.txt` then says with its reason.
"""
