"""`make bench`: what the register does, beside what the machine and PostgreSQL could do at most.

Starts everything itself, on a register of synthetic persons. Each path is run in turns with its
floor, several rounds of both on the same cores, so that a slow moment falls on both: a ratio
says something about the register, an absolute figure mostly about the machine.

    bare gRPC          echo.py answers as many bytes and does nothing else
    raw reads          raw_reads.py runs the server's statements and drops the rows
    pgbench            runs the statements of a write, as PostgreSQL was sent them
    COPY               psql loads the same rows into the same tables
"""
