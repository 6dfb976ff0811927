"""Events in the journal, results in a database of finished sums, and a run that leads from the one
to the other: on a schedule, on demand, or early when much waits.
"""
