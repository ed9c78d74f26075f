"""Measure everything that is claimed about speed, beside what people use instead, and print it as one document.

    python benchmarks/suite.py [--only SECTION,...] [--quick | --long] [--output benchmarks/results]
        [--plots docs/growth.svg]

Contenders run in processes of their own and take turns, so that a change of clock or load meets all of them; medians
are shown, losing rows are marked. The document goes to standard output, everything behind it as JSON to the folder
--output, one file a commit, from which the history at the document's end is made; sections that are not measured again
stay in it. What is made for it is kept in the folder --work: photographs, and artefacts until other code makes them.

--long adds memory and cost over thousands of images (the section growth) and measures more thoroughly.
"""

if __name__ == "__main__":
    # Not above: every contender's process reads this file again, and would have these libraries in its memory.
    from speed.command_line import main

    main(__doc__)
