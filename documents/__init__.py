"""The documentation site: pages that are made from code when it is built, and the checks of its prose."""
