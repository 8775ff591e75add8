"""What a task is asked with, and what it answers: declared once, read by the service, the command line and the replay.

    options.py   a value sent beside the image, such as `age`: its type, its range, one sentence
    kinds.py     one image, an image and its fellow, or a pair with boxes: how each is sent and decoded
    answers.py   the parts that the answers of several tasks share
    boxes.py     the boxes of a pair, as JSON
    form.py      a multipart/form-data body

Light to import: a task declares its question in `derm_ml/tasks/<task>/asking.py` without any imaging library.
"""
