"""One file per figure: what is run, as data, and how it is drawn."""
