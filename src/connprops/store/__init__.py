"""How files are written: whole or not at all, sealed, locked, staged, in shards.

``writing``: :func:`replacing` and :func:`write_text` for one file, :func:`locked` for a file or
folder, checksums. ``records``: JSON files, checked against a dataclass when they are read, with a
seal where nobody may change them. ``tables``: small tables as sealed Parquet. ``stage``: a folder
that takes its place at the end (:func:`new_folder`), or keeps what is finished and can be shared
by shards (:func:`staged`). ``shards``: shares of the work.
"""
