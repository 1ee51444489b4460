"""Two sets of outcomes on the same items: what differs, how surely, and what the items could not have shown.

Pure: outcomes in, values out. Knows no file, no model and no page.
"""
