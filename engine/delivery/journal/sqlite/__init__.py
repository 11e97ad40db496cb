"""The journal's file as an SQLite database: everything that knows SQLite, and nothing that knows groups or holds.

store      the file in two worker threads: open, write, read, rescue, close
worker     a thread with a connection of its own
schema     tables and formats
writing    a commit as one transaction
block      the records of one commit and lane as one blob
reading    a part of a lane
letters    dead letters
trimming   deleting blocks, returning pages
opening    opening a file whatever its state
rescue     replacing a damaged file
salvage    reading a damaged file row by row, by `pages` and `wal`, without SQLite
"""
