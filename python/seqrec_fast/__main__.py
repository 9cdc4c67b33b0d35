"""``python -m seqrec_fast``: the command line."""

from seqrec_fast.cli import main

if __name__ == "__main__":
    main(prog_name="seqrec-fast")
