"""Columns that people call otherwise: `file` for filename, `class` for label."""

from __future__ import annotations

from collections.abc import Collection

_ALSO = {
    "filename": ("file", "file_name", "filepath", "file_path", "path", "image", "image_name", "image_id", "image_path",
                 "img", "img_name", "name", "id"),
    "label": ("class", "class_name", "category", "diagnosis", "dx", "target", "labels", "y"),
}  # fmt: skip


def renamed(there: Collection[str], wanted: Collection[str]) -> str:
    """`{"file", "class"}` where filename and label are wanted → `rename file to filename and class to label`.

    "" where nothing needs another name, or something wanted is not there under any.
    """
    changes = {}
    for column in wanted:
        if column not in there:
            other = next((name for name in _ALSO.get(column, ()) if name in there), "")
            if not other:
                return ""
            changes[column] = other
    return "rename " + " and ".join(f"{old} to {new}" for new, old in changes.items()) if changes else ""
