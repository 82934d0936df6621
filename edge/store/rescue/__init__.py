"""Keep the store from being lost: a file that goes away is put back, a damaged one set aside and read.

``open_file`` has the file as the writer has it; ``salvage`` opens it whole; ``pages`` takes rows from damaged
pages; ``mark`` notes what was reported as stored.
"""
