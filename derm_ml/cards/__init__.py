"""The model card and the data card of a version: what a reviewer reads, made from the run, and nothing else.

    statement.py   what only a person can say of a task: intended use, users, limits (tasks/<task>/card.yaml)
    card.py        sections of fields; a mandatory field that is empty refuses promotion
    model_card.py  the model, its evidence and its limits, under the headings of CHAI's applied model card
    data_card.py   the images it was trained and measured on
    coverage.py    which items of TRIPOD+AI and CLAIM these cards answer, and where
    pages.py       a card as Markdown, as HTML and as JSON

Not to be confused with bundle.json, which a program reads (`BundleCard`).
"""
