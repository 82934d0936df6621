"""Panning over real smears whose leukocytes are known: is each counted once, and nothing else?"""
