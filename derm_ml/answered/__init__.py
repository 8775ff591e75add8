"""What services answered: one record a prediction, without an image and without a name.

journal.py   the service appends to it; light, no table library
table.py     closed journals become Parquet; all records as one table; what is too old is removed
"""
