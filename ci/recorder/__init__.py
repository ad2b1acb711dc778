"""The truth of pools: runs real Python libraries on a real PostgreSQL, and keeps or compares what was seen.

`ci/truth` starts it. Read in this order: situation (what the files say), interpreter (how a step is done for real),
backends (what the server says), records (the files beside the tests), servers (where it runs), stories/ (one file a story).
"""
